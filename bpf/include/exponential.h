/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * The bucket of a time in OpenTelemetry's exponential histogram of seconds at scale 3.
 *
 * A boundary is 10^9 * 2^(j/8) ns for an integer j, so the 8 boundaries within [2^h, 2^(h+1)) ns
 * are 2^h times the same 8 numbers for each h. With a time shifted until its highest bit is
 * bit 63, only these 8 have to be compared with. They are rounded down, which changes no
 * comparison with an integer: the bucket is exact. C without BPF, so that tests run it natively.
 */
#ifndef OTEL_OOM_EXPONENTIAL_H
#define OTEL_OOM_EXPONENTIAL_H

#define EXPONENTIAL_SHORTEST_NS 238ULL /* 2^-22 s rounded down: up to here it is zero */
#define EXPONENTIAL_LONGEST_NS 1024000000000ULL /* 2^10 s: the last bucket's end */
#define EXPONENTIAL_OFFSET                                                                         \
	64 /* boundaries between 2^-22 s and 1 ns, and the first bucket's own                      \
	    */

/*
 * The boundaries in units of 2^(h - 63) ns; no time is above the ninth. The rest is for the
 * verifier, which wants an index that a mask keeps inside.
 */
static const __u64 exponential_boundaries[16] = {
	0x81ffa7a9549ca6e3ULL, 0x8dc3b8960164a7d9ULL, 0x9a9867054d512391ULL,
	0xa8965f74bf065071ULL, 0xb7d88a12d0dd9ea0ULL, 0xc87c3e7d03cdbec3ULL,
	0xdaa17c2cd19555dbULL, 0xee6b280000000000ULL, ~0ULL,
};

/* How many of them lie below each sixteenth of an octave; none holds more than one. */
static const __u8 exponential_below[16] = { 0, 1, 2, 2, 3, 3, 4, 5, 5, 5, 6, 6, 7, 7, 8, 8 };

/* `bits` if value > limit, without a branch; both below 2^63. */
static inline __attribute__((always_inline)) __u32 bits_if_above(__u64 value, __u64 limit,
								 __u32 bits)
{
	return (limit - value) >> 63 ? bits : 0;
}

/* Position of the highest bit that is set; 0 < value < 2^63. */
static inline __attribute__((always_inline)) __u32 highest_bit(__u64 value)
{
	__u32 ret = bits_if_above(value, 0xffffffffULL, 32);

	ret |= bits_if_above(value >> ret, 0xffff, 16);
	ret |= bits_if_above(value >> ret, 0xff, 8);
	ret |= bits_if_above(value >> ret, 0xf, 4);
	ret |= bits_if_above(value >> ret, 0x3, 2);
	ret |= bits_if_above(value >> ret, 0x1, 1);
	return ret;
}

/* Index from 0; EXPONENTIAL_SHORTEST_NS < ns <= EXPONENTIAL_LONGEST_NS. */
static inline __attribute__((always_inline)) __u32 exponential_bucket(__u64 ns)
{
	__u32 high = highest_bit(ns);
	__u64 shifted = ns << (63 - high);
	__u32 below = exponential_below[shifted >> 59 & 15];

	below += shifted > exponential_boundaries[below & 15];
	return high * 8 + below - EXPONENTIAL_OFFSET;
}

#endif
