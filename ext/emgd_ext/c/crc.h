/* CRC-32C (Castagnoli), RFC 3720 B.4. */
#ifndef EMGD_CRC_H
#define EMGD_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `size` bytes, going on from `crc` (0 to begin). */
uint32_t emgd_crc32c(const uint8_t *data, size_t size, uint32_t crc);

/* The portable way, whatever the machine can do: for tests of the above. */
uint32_t emgd_crc32c_portable(const uint8_t *data, size_t size, uint32_t crc);

#endif
