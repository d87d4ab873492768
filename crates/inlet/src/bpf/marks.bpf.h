/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the mark of a packet gets to the look-up, which cannot see it: a netfilter program leaves it, with the packet's
 * addresses and ports, for the look-up that follows on the same CPU.
 */
#pragma once

/* The bits of `kind`: a packet that is not of TCP over IPv4 differs in the upper ones. */
#define MARKED 1
#define MARKED_UDP_SHIFT 1
#define MARKED_V6_SHIFT 2

/* A packet and its mark. Addresses and the remote port are in network order, as the context of the look-up has them. */
struct marked {
	__u32 local[4]; /* of IPv4 the first word */
	__u32 remote[4];
	__u32 ports; /* the remote one in the upper half */
	__u32 kind;  /* 0: nobody's */
	__u32 mark;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct marked);
} inlet_marks SEC(".maps");

static __always_inline struct marked *left_here(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&inlet_marks, &key);
}
