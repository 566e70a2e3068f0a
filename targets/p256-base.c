/*
 * The generator of P-256 times a scalar, without ring's table of 152 kB.
 *
 * On 64-bit ARM and PC, ring keeps multiples of the generator for the speed of servers: some tenths
 * of a millisecond in each of a handshake's three products, of which a device does a few a day.
 * Here its product of any point (constant time, too) is given the generator instead. targets/zig
 * links this in place of both functions with that table; nothing of ring itself is changed.
 */
#include <stdint.h>

#define NAMED(ring, name) ring_core_##ring##__##name
#define OF(ring, name) NAMED(ring, name)
#define WRAPPED(ring, name) __wrap_ring_core_##ring##__##name
#define IN_PLACE_OF(ring, name) WRAPPED(ring, name)

void OF(RING, p256_point_mul)(uint64_t product[12], const uint64_t scalar[4],
                              const uint64_t x[4], const uint64_t y[4]);

/* SEC 2, section 2.4.2, times 2^256 modulo the field's prime (Montgomery form); low limbs first. */
static const uint64_t X[4] = {
    0x79e730d418a9143c, 0x75ba95fc5fedb601, 0x79fb732b77622510, 0x18905f76a53755c6};
static const uint64_t Y[4] = {
    0xddf25357ce95560a, 0x8b4ab8e4ba19e45c, 0xd2e88688dd21f325, 0x8571ff1825885d85};

void IN_PLACE_OF(RING, p256_point_mul_base)(uint64_t product[12], const uint64_t scalar[4]) {
    OF(RING, p256_point_mul)(product, scalar, X, Y);
}
void IN_PLACE_OF(RING, p256_point_mul_base_vartime)(uint64_t product[12], const uint64_t scalar[4]) {
    OF(RING, p256_point_mul)(product, scalar, X, Y);
}
