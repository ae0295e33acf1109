/* stop, fault, disarm and disconnect disarm at once, whatever the gate holds: even memory that was overwritten. */
#include "any.h"

int main(void) {
    emgd_gate g = ANY(gate);
    uint64_t causes = ANY(uint64_t);
    int way = ANY(int);
    switch (way) {
    case 0: emgd_gate_stop(&g); break;
    case 1: emgd_gate_fault(&g, causes); break;
    case 2: emgd_gate_disarm(&g); break;
    default: emgd_gate_disconnect(&g); break;
    }
    CLAIM(!armed(&g) && g.shot.left == 0);
    CLAIM(IMPLIES(way == 0 || way == 1, g.state == EMGD_FAULT && g.faults != 0));
    return 0;
}
