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

/*
 * How many of them lie below each sixteenth of an octave, four bits each from the lowest up;
 * no sixteenth holds more than one.
 */
#define EXPONENTIAL_BELOW 0x8877665554332210ULL

/* The empty asm keeps it one branch: BPF has no conditional move, and each value got its own. */
#define EXPONENTIAL_STEP(value, at, bits)                                                          \
	if ((value) >> (bits)) {                                                                   \
		(value) >>= (bits);                                                                \
		(at) += (bits);                                                                    \
		asm volatile("" : "+r"(value), "+r"(at));                                          \
	}

/* Highest bit of each number from 0 to 15, two bits each from the lowest up. */
#define EXPONENTIAL_HIGHEST_BITS 0xffffaa50U

/*
 * Position of the highest bit that is set; 0 < value < 2^64. Branches, because the times of a
 * device are so much alike that the processor foresees them.
 */
static inline __attribute__((always_inline)) __u32 highest_bit(__u64 value)
{
	__u32 at = 0;

	EXPONENTIAL_STEP(value, at, 32)
	EXPONENTIAL_STEP(value, at, 16)
	EXPONENTIAL_STEP(value, at, 8)
	EXPONENTIAL_STEP(value, at, 4)
	return at + (EXPONENTIAL_HIGHEST_BITS >> value * 2 & 3);
}

/* Index from 0; EXPONENTIAL_SHORTEST_NS < ns <= EXPONENTIAL_LONGEST_NS. */
static inline __attribute__((always_inline)) __u32 exponential_bucket(__u64 ns)
{
	__u32 high = highest_bit(ns);
	__u64 shifted = ns << (63 - high);
	__u32 below = EXPONENTIAL_BELOW >> (shifted >> 59 & 15) * 4 & 15;

	below += shifted > exponential_boundaries[below];
	return high * 8 + below - EXPONENTIAL_OFFSET;
}

#endif
