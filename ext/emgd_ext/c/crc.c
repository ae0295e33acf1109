/* CRC-32C. C because it runs over every byte from the device; by instruction where the CPU has one (about 9 GB/s),
 * else eight tables at a time (about 2.5 GB/s). Chosen at run time, so one build serves every x86-64. */
#include "crc.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL_REFLECTED 0x82F63B78u /* 0x1EDC6F41 with its bits reversed */

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL_REFLECTED : crc >> 1;
        table[0][byte] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int byte = 0; byte < 256; byte++)
            table[slice][byte] = table[slice - 1][byte] >> 8 ^ table[0][table[slice - 1][byte] & 0xff];
}

uint32_t emgd_crc32c_portable(const uint8_t *data, size_t size, uint32_t crc) {
    pthread_once(&table_once, fill_table);
    crc = ~crc;
    for (; size >= 8; size -= 8, data += 8) {
        uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24);
        crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^ table[5][low >> 16 & 0xff] ^ table[4][low >> 24] ^
              table[3][data[4]] ^ table[2][data[5]] ^ table[1][data[6]] ^ table[0][data[7]];
    }
    while (size--) crc = crc >> 8 ^ table[0][(crc ^ *data++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(const uint8_t *data, size_t size, uint32_t crc) {
    uint64_t wide = ~crc;
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    while (size--) crc = _mm_crc32_u8(crc, *data++);
    return ~crc;
}

uint32_t emgd_crc32c(const uint8_t *data, size_t size, uint32_t crc) {
    return __builtin_cpu_supports("sse4.2") ? crc32c_sse42(data, size, crc) : emgd_crc32c_portable(data, size, crc);
}
#else
uint32_t emgd_crc32c(const uint8_t *data, size_t size, uint32_t crc) {
    return emgd_crc32c_portable(data, size, crc);
}
#endif
