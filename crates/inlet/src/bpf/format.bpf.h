/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The format of the image, as inlet-core's image module tells it, and the constants that a program is loaded with.
 */
#pragma once

#define AF_INET 2
#define AF_INET6 10

/* The windows of a family, or none and one bucket (pieces is 0). Places are in words of the image. */
struct root {
	__u64 used;
	__u64 pieces;
	__u64 shift;
	__u64 low_half;
	__u64 first;
	__u64 high;
	__u64 windows;
	__u64 buckets;
	__u64 more;
};

struct config {
	__u64 search_words;
	__u64 search_mask;
	__u64 index;
	__u64 blocks32;
	__u64 blocks128;
	__u64 cells;
	__u64 ranges;
	__u64 chain;
	__u64 hops;
	__u64 steps;
	__u64 levels;
	__u64 port_tables;
	__u64 bisect;
	struct root v4;
	struct root v6;
	__u64 flow_key[2]; /* not of the image: the secret of the instance */
};

/* Tells the loader the layout; no such map is made. Not a variable, for which libbpf would try what the kernel can do.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} inlet_config SEC(".maps");

/* A constant is an operand of the instruction, so that it costs neither a load nor a cache line. Until the loader puts
 * the number there it says which one: the place in struct config, above it a mark that no other number has. */
#define CONSTANT_MARK 0x496e6c6574430000
#define constant(field)                                                                                                \
	({                                                                                                             \
		__u64 value;                                                                                           \
		asm volatile("%0 = %1 ll" : "=r"(value) : "i"(CONSTANT_MARK + offsetof(struct config, field)));        \
		value;                                                                                                 \
	})

/* The image: the loader puts the map of this generation here. The program has its address, so no look-up is needed. */
__u32 inlet_image[1024] SEC(".bss.image");

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
#define SHIFT 0x3f
#define LOW_HALF (1 << 8)
#define NODE_BISECT (1 << 9)
/* Levels of index nodes, and one to bisect. */
#define MAX_LEVELS 7
/* The largest image has fewer than 2^22 blocks. */
#define MAX_BISECTIONS 22

/* The value of a local address: its port table, and the next shorter prefix in the chain. For other searches: a
 * leaf. */
struct value {
	__u32 ports;
	__u32 next;
};
#define VALUE_WORDS (sizeof(struct value) / sizeof(__u32))

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

/* A stretch of addresses and the buckets of its pieces; the first bucket is for what is outside of it. */
struct window4 {
	__u32 bucket;
	__u32 pieces;
	__u32 shift;
	__u32 first;
};
struct window6 {
	__u32 bucket;
	__u32 pieces;
	__u32 shift;
	__u32 nothing;
	__u64 first;
	__u64 high;
};

/* The longest prefixes of a piece, longest first, their values and that of all else. An address is in a prefix when
 * nothing is left of their difference, shifted. */
#define PREFIXES 4
struct bucket4 {
	struct value value[PREFIXES + 1];
	__u32 more;
	__u8 shift[PREFIXES];
	__u32 key[PREFIXES];
};
struct bucket6 {
	struct value value[PREFIXES + 1];
	__u32 more;
	__u32 nothing;
	__u8 high_shift[PREFIXES];
	__u8 low_shift[PREFIXES];
	__u64 nothing_either;
	struct {
		__u64 high;
		__u64 low;
	} key[PREFIXES];
};
/* The bit of a shift that says that nothing of the half matters. */
#define NOTHING 7
/* In more: the cell with the entry of a search, and not another bucket. */
#define MORE_SEARCH (1U << 31)

/* A port table of one cache line. One with a leaf for one or two ranges is the numbers of these, a larger one a search
 * whose entry is in a cell. */
struct ports {
	__u32 key[8];
	__u32 leaf[8];
};
#define PORTS_LARGE (1U << 31)
#define PORTS_ONE (1U << 30)
#define PORTS_TWO (1U << 29)
#define RANGE_BITS 14
/* Which of them there are. */
#define HAS_ONE 1
#define HAS_TWO 2
#define HAS_SMALL 4
#define HAS_LARGE 8

struct range {
	__u32 ports; /* the last one in the upper half */
	__u32 leaf;  /* with the protocol */
};
#define RANGE_UDP 28

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
