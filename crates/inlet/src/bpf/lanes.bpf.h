/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sockets of services: the map that holds them, and which of its slots a service has.
 */
#pragma once

/*
 * A lane is the sockets of a service for one protocol and family: a range of slots that belong to it and to no other
 * lane. It is one word, so that every change of it is whole:
 *
 *   bits 0..23   first: the first slot of the range
 *   bits 24..39  owned: how many slots the range has, at most LANE_MAX
 *   bits 40..55  shown: packets go to the first so many of them, where an empty slot is passed over
 *   bit 63       retired: the lane gives its range back; nobody puts anything there any more
 *
 * A socket is put into an empty slot, and then `shown` is raised over it by a compare-and-swap of the word. User space
 * and the kernel do that side by side. Only user space changes the rest: it moves, extends and retires ranges. A range
 * gets another owner only after a grace period, so a program that saw it in a word may go on with it until it ends.
 */
#define LANE_FIRST_BITS 24
#define LANE_OWNED_SHIFT LANE_FIRST_BITS
#define LANE_SHOWN_SHIFT 40
#define LANE_COUNT_MASK 0xffff
#define LANE_RETIRED (1ULL << 63)
#define LANE_FIRST_MASK ((1ULL << LANE_FIRST_BITS) - 1)

/* How many sockets a service can have for one protocol and family. */
#define LANE_MAX 4096

static __always_inline __u32 lane_first(__u64 word)
{
	return word & LANE_FIRST_MASK;
}

static __always_inline __u32 lane_owned(__u64 word)
{
	return word >> LANE_OWNED_SHIFT & LANE_COUNT_MASK;
}

static __always_inline __u32 lane_shown(__u64 word)
{
	return word >> LANE_SHOWN_SHIFT & LANE_COUNT_MASK;
}

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inlet_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inlet_lanes SEC(".maps");

/* The lane of a service: two protocols, two families. Service 0 is none; its lanes are ranges of a move, see lanes.rs.
 */
static __always_inline __u32 lane_key(__u32 service, __u32 v6, __u32 udp)
{
	return service * 4 + v6 * 2 + udp;
}
