/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The format of the image, as inlet-core's image module tells it, and the constants that a program is loaded with.
 */
#pragma once

#define AF_INET 2
#define AF_INET6 10

/*
 * The numbers of the format. inlet-core's image/format has them under the same names, and crate inlet asserts that they
 * are equal.
 */
enum image_format {
	/* What leads on in a search: kinds 0 to 2 are a run of blocks, ENTRY_NODE is a node. */
	ENTRY_SHIFT = 30,
	ENTRY_NODE = 3,

	NODE_WORDS = 6,
	SHIFT = 0x3f, /* of the flags of a node and of a window */
	LOW_HALF = 1 << 8,
	NODE_BISECT = 1 << 9,
	MAX_LEVELS = 7, /* levels of index nodes, and one to bisect */

	VALUE_WORDS = 2,
	BLOCK_WORDS = 32,
	BLOCK32_KEYS = 10,
	BLOCK128_KEYS = 5,

	WINDOW4_WORDS = 4,
	WINDOW6_WORDS = 8,

	PREFIXES = 4,
	BUCKET4_WORDS = 16,
	BUCKET6_WORDS = 32,
	BUCKET_MORE = 10,
	BUCKET4_SHIFT = 11,
	BUCKET4_KEY = 12,
	BUCKET6_HIGH_SHIFT = 12,
	BUCKET6_LOW_SHIFT = 13,
	BUCKET6_KEY = 16,
	NOTHING = 7,		/* this bit of a shift says that no bit of the half counts */
	MORE_SEARCH = 1U << 31, /* the rest is the cell of a search, and not another bucket */

	/* The number of a port table: of its one or two ranges, or the cell of a search. */
	PORTS_LARGE = 1U << 31,
	PORTS_ONE = 1U << 30,
	PORTS_TWO = 1U << 29,
	RANGE_BITS = 14,
	RANGE_UDP = 28,
	SMALL_RANGES = 8, /* in a port table of one cache line */
	/* Which kinds of port tables there are. */
	HAS_ONE = 1,
	HAS_TWO = 2,
	HAS_SMALL = 4,
	HAS_LARGE = 8,

	LEAF_GROUP = 4096,
	LEAF_BOUND_ANSWERS = 8192,
	LEAF_STICKY = 14, /* the shift of the seconds */
	LEAF_SHIFT = 29,
	LEAF_MISS = 0,
	LEAF_PASS = 1,
	LEAF_REFUSE = 2,
	LEAF_SERVICE_OR_REFUSE = 3,
	LEAF_SERVICE_OR_PASS = 4,
	LEAF_BY_SOURCE = 5,
	LEAF_BY_IFACE = 6,
	LEAF_BY_MARK = 7,
	MARK_MASK = 1,
	MARK_UNKNOWN = 2,

	MAX_STEPS = 32,
	MAX_HOPS = 129,
};

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
	__u64 marks;
	struct root v4;
	struct root v6;
	__u64 flow_key[2]; /* not of the image: the secret of the instance */
	__u64 answers;	   /* not of the image: whether flows are noted */
	__u64 clients;	   /* not of the image: whether answers to clients of the host pass */
	__u64 sticky;	   /* not of the image: whether flows stay on sockets */
	__u64 cookie;	   /* not of the image: where the kernel has the cookie of a socket */
	__u64 own_ports;   /* not of the image: the first port of own binds, above 16 bits how many; 0 for none */
};

/* Tells the loader the layout and the numbers; no such map is made. Not a variable, for which libbpf would try what the
 * kernel can do. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, enum image_format);
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

#define ENTRY_KIND(entry) ((entry) >> ENTRY_SHIFT)
#define ENTRY_PLACE(entry) ((entry) & ((1U << ENTRY_SHIFT) - 1))

struct node {
	__u32 count;
	__u32 flags; /* the shift in the low 6 bits */
	__u64 first;
	__u64 high;
};
/* The largest image has fewer than 2^22 blocks. */
#define MAX_BISECTIONS 22

/* The value of a local address: its port table, and the next shorter prefix in the chain. For other searches: a
 * leaf. */
struct value {
	__u32 ports;
	__u32 next;
};

struct block32 {
	__u32 key[BLOCK32_KEYS];
	struct value value[BLOCK32_KEYS];
};
struct block128 {
	struct {
		__u64 high;
		__u64 low;
	} key[BLOCK128_KEYS];
	struct value value[BLOCK128_KEYS];
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
/* A port table of one cache line. */
struct ports {
	__u32 key[SMALL_RANGES];
	__u32 leaf[SMALL_RANGES];
};

struct range {
	__u32 ports; /* the last one in the upper half */
	__u32 leaf;  /* with the protocol */
};

#define HAS_WORDS(type, count) _Static_assert(sizeof(type) == (count) * sizeof(__u32), #type)
#define AT_WORD(type, field, word)                                                                                     \
	_Static_assert(__builtin_offsetof(type, field) == (word) * sizeof(__u32), #type "." #field)

HAS_WORDS(struct node, NODE_WORDS);
HAS_WORDS(struct value, VALUE_WORDS);
HAS_WORDS(struct window4, WINDOW4_WORDS);
HAS_WORDS(struct window6, WINDOW6_WORDS);
HAS_WORDS(struct bucket4, BUCKET4_WORDS);
HAS_WORDS(struct bucket6, BUCKET6_WORDS);
AT_WORD(struct bucket4, more, BUCKET_MORE);
AT_WORD(struct bucket6, more, BUCKET_MORE);
AT_WORD(struct bucket4, shift, BUCKET4_SHIFT);
AT_WORD(struct bucket4, key, BUCKET4_KEY);
AT_WORD(struct bucket6, high_shift, BUCKET6_HIGH_SHIFT);
AT_WORD(struct bucket6, low_shift, BUCKET6_LOW_SHIFT);
AT_WORD(struct bucket6, key, BUCKET6_KEY);

static __always_inline __u32 leaf_kind(__u32 leaf)
{
	return leaf >> LEAF_SHIFT;
}

static __always_inline __u32 leaf_number(__u32 leaf)
{
	return leaf & ((1U << LEAF_SHIFT) - 1);
}
