/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The format of the image, as inlet-core's image module tells it, and the constants that a program is loaded with.
 */
#pragma once

#define AF_INET 2
#define AF_INET6 10

/* The entries of a root index lie at `entry`; without an index (entries is 0), `entry` itself leads on. */
struct root {
	__u32 entries;
	__u32 entry;
	__u32 shift;
	__u32 low_half;
	__u64 first;
	__u64 high;
	__u32 levels;
	__u32 used;
};

/* Places are in words of the image. */
struct config {
	__u32 search_words;
	__u32 index;
	__u32 blocks32;
	__u32 blocks128;
	__u32 cells;
	__u32 chain;
	__u32 hops;
	__u32 steps;
	__u32 levels;
	__u32 large_ports;
	__u32 bisect;
	struct root v4;
	struct root v6;
};

const volatile struct config cfg = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 4096);
} inlet_image SEC(".maps");

/* What leads on in a search: kinds 0 to 2 are a run of blocks, 3 is a node. */
#define ENTRY_KIND(entry) ((entry) >> 30)
#define ENTRY_PLACE(entry) ((entry) & ((1U << 30) - 1))
#define ENTRY_NODE 3

struct node {
	__u32 count;
	__u32 flags; /* the shift in the low 6 bits */
	__u64 first;
	__u64 high;
};
#define NODE_WORDS (sizeof(struct node) / sizeof(__u32))
#define NODE_SHIFT 0x3f
#define NODE_LOW_HALF (1 << 8)
#define NODE_BISECT (1 << 9)
/* Levels of index nodes, and one to bisect. */
#define MAX_LEVELS 7
/* The largest image has fewer than 2^22 blocks. */
#define MAX_BISECTIONS 22

/* The value of an interval of local addresses: its port table, and the next shorter prefix in the chain. For other
 * searches: a leaf. */
struct value {
	__u32 ports;
	__u32 next;
};

#define BLOCK_WORDS 32
struct block32 {
	__u32 key[10];
	struct value value[10];
};
struct block128 {
	struct {
		__u64 high;
		__u64 low;
	} key[5];
	struct value value[5];
};

/* A port table of one cache line; a larger one is a search whose entry is in a cell. */
struct ports {
	__u32 key[8];
	__u32 leaf[8];
};
#define PORTS_LARGE (1U << 31)

#define LEAF_MISS 0
#define LEAF_PASS 1
#define LEAF_REFUSE 2
#define LEAF_SERVICE_OR_REFUSE 3
#define LEAF_SERVICE_OR_PASS 4
#define LEAF_BY_SOURCE 5
#define LEAF_BY_IFACE 6
#define MAX_STEPS 32
#define MAX_HOPS 129

static __always_inline __u32 leaf_kind(__u32 leaf)
{
	return leaf >> 29;
}

static __always_inline __u32 leaf_number(__u32 leaf)
{
	return leaf & ((1U << 29) - 1);
}
