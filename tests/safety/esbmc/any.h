/* For the second opinion (scripts/second-opinion): any value at all, and what is claimed. */
#ifndef EMGD_ANY_H
#define EMGD_ANY_H

#include "gate.h"

void __ESBMC_assert(_Bool holds, const char *what);

/* Any value at all. Named ones: the checker takes a function without a body that is named nondet_... as one that returns anything. A
 * local without a value would not do: where two ways meet, ESBMC takes the value of the way that assigned it. */
#define ANY(type) nondet_##type()
#define ANY_OF(type) type nondet_##type(void)
int nondet_int(void);
ANY_OF(uint64_t);
emgd_gate nondet_gate(void);

#define CLAIM(holds) __ESBMC_assert(holds, #holds)
#define IMPLIES(if_, then) (!(if_) || (then))

static _Bool armed(const emgd_gate *g) {
    return g->state == EMGD_ARMED || g->state == EMGD_FIRING || g->state == EMGD_COOLDOWN;
}

#endif
