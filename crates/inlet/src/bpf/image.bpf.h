/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The search of the image: which leaf is for a packet. The format is told in inlet-core's image module, and the same
 * search in plain Rust is its walk.rs; when the two differ, one of them is wrong.
 *
 * Everything in `cfg` is fixed before the program is loaded, so the verifier knows it and drops the code that this
 * ruleset does not use. Every place in the image is bounded by at(), whatever the image says.
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

/* The place in the image, or the image's start when it is not one to be searched. A whole block can be read from it.
 * The bound is written in assembly because the compiler would check one register and use another. */
static __always_inline const void *at(const void *base, __u64 word)
{
	__u64 end = cfg.search_words;

	asm volatile("if %0 < %1 goto +1\n\t"
		     "%0 = 0"
		     : "+r"(word)
		     : "r"(end));
	return base + word * sizeof(__u32);
}

/* The highest bit. The empty asm keeps the compiler from making a branch of what it is used for, which the verifier
 * would walk both ways and the processor mispredict, and from folding sums of such bits into something else. */
static __always_inline __u64 top_bit(__u64 value)
{
	asm volatile("" : "+r"(value));
	value >>= 63;
	asm volatile("" : "+r"(value));
	return value;
}

/* 1 when key <= wanted, both below 2^63. */
static __always_inline __u64 le32(__u32 key, __u64 wanted)
{
	return top_bit(key + ~wanted);
}

/* The same for 128 bits: there is no borrow in wanted - key. Low half first. */
static __always_inline __u64 le128(__u64 key_high, __u64 key_low, __u64 high, __u64 low)
{
	__u64 borrow = top_bit((~low & key_low) | (~(low ^ key_low) & (low - key_low)));

	return top_bit(~((~high & key_high) | (~(high ^ key_high) & (high - key_high - borrow))));
}

static __always_inline __u64 window_at(__u64 value, __u64 first, __u32 shift, __u32 count)
{
	__u64 entry = value < first ? 0 : (value - first) >> shift;

	return entry < count ? entry : count - 1;
}

/* The half of a 128-bit key that the window lies in; outside of it, what leads to the first or last entry. */
static __always_inline __u64 window_half(__u64 high, __u64 low, __u32 low_half, __u64 node_high)
{
	if (!low_half)
		return high;
	if (high == node_high)
		return low;
	return high < node_high ? 0 : ~0ULL;
}

static __always_inline const struct block32 *block32(const void *base, __u64 block)
{
	return at(base, cfg.blocks32 + block * BLOCK_WORDS);
}

static __always_inline const struct block128 *block128(const void *base, __u64 block)
{
	return at(base, cfg.blocks128 + block * BLOCK_WORDS);
}

/* Where the entry of a node's index is for a window's value. */
static __always_inline __u64 entry_place(const struct node *node, __u64 place, __u64 value)
{
	return place + NODE_WORDS + window_at(value, node->first, node->flags & NODE_SHIFT, node->count);
}

/* Of the blocks of a node to bisect, the last one whose first key is not above the key. Rare: only keys that several
 * levels of indexes could not tell apart. A function of its own, verified once. */
__noinline __u32 bisect32(__u32 place, __u32 key)
{
	__u32 zero = 0, block, left;
	const void *base = bpf_map_lookup_elem(&inlet_image, &zero);
	const struct node *node;

	if (!base)
		return 0;
	node = at(base, place);
	block = node->first;
	left = node->count;
	for (int i = 0; i < MAX_BISECTIONS && left > 1; i++) {
		__u32 half = left / 2;

		if (block32(base, block + half)->key[0] <= key)
			block += half;
		left -= half;
	}
	return block;
}

__noinline __u32 bisect128(__u32 place, __u64 high, __u64 low)
{
	__u32 zero = 0, block, left;
	const void *base = bpf_map_lookup_elem(&inlet_image, &zero);
	const struct node *node;

	if (!base)
		return 0;
	node = at(base, place);
	block = node->first;
	left = node->count;
	for (int i = 0; i < MAX_BISECTIONS && left > 1; i++) {
		__u32 half = left / 2;
		const struct block128 *b = block128(base, block + half);

		if (b->key[0].high < high || (b->key[0].high == high && b->key[0].low <= low))
			block += half;
		left -= half;
	}
	return block;
}

static __always_inline const struct value *search32(const void *base, __u32 entry, __u64 key, __u32 levels)
{
	const struct block32 *b;
	__u64 block, rank;

	for (int level = 0; level < MAX_LEVELS; level++) {
		__u64 place = cfg.index + ENTRY_PLACE(entry);
		const struct node *node;

		if (level >= levels || ENTRY_KIND(entry) != ENTRY_NODE)
			break;
		node = at(base, place);
		if (cfg.bisect && node->flags & NODE_BISECT)
			entry = bisect32(place, key);
		else
			entry = *(const __u32 *)at(base, entry_place(node, place, key));
	}
	block = ENTRY_PLACE(entry);
	if (ENTRY_KIND(entry)) {
		__u64 more = le32(block32(base, block + 1)->key[0], key);

		if (ENTRY_KIND(entry) > 1)
			more += le32(block32(base, block + 2)->key[0], key);
		block += more;
	}
	b = block32(base, block);
	rank = le32(b->key[5], key) * 5;
	rank += le32(b->key[rank + 1], key) + le32(b->key[rank + 2], key) + le32(b->key[rank + 3], key) +
		le32(b->key[rank + 4], key);
	return &b->value[rank];
}

static __always_inline const struct value *search128(const void *base, __u32 entry, __u64 high, __u64 low, __u32 levels)
{
	const struct block128 *b;
	__u64 block, rank = 0;

	for (int level = 0; level < MAX_LEVELS; level++) {
		__u64 place = cfg.index + ENTRY_PLACE(entry);
		const struct node *node;
		__u64 half;

		if (level >= levels || ENTRY_KIND(entry) != ENTRY_NODE)
			break;
		node = at(base, place);
		half = window_half(high, low, node->flags & NODE_LOW_HALF, node->high);
		if (cfg.bisect && node->flags & NODE_BISECT)
			entry = bisect128(place, high, low);
		else
			entry = *(const __u32 *)at(base, entry_place(node, place, half));
	}
	block = ENTRY_PLACE(entry);
	if (ENTRY_KIND(entry)) {
		__u64 more;

		b = block128(base, block + 1);
		more = le128(b->key[0].high, b->key[0].low, high, low);
		if (ENTRY_KIND(entry) > 1) {
			b = block128(base, block + 2);
			more += le128(b->key[0].high, b->key[0].low, high, low);
		}
		block += more;
	}
	b = block128(base, block);
#pragma unroll
	for (int i = 1; i < 5; i++)
		rank += le128(b->key[i].high, b->key[i].low, high, low);
	return &b->value[rank];
}

static __always_inline const struct value *local4(const void *base, __u64 addr)
{
	const volatile struct root *root = &cfg.v4;
	__u32 entry = root->entry;

	if (root->entries)
		entry = *(const __u32 *)at(base, cfg.index + root->entry +
							 window_at(addr, root->first, root->shift, root->entries));
	return search32(base, entry, addr, root->levels);
}

static __always_inline const struct value *local6(const void *base, __u64 high, __u64 low)
{
	const volatile struct root *root = &cfg.v6;
	__u32 entry = root->entry;

	if (root->entries) {
		__u64 half = window_half(high, low, root->low_half, root->high);

		entry = *(const __u32 *)at(base, cfg.index + root->entry +
							 window_at(half, root->first, root->shift, root->entries));
	}
	return search128(base, entry, high, low, root->levels);
}

/* A 128-bit address of the context, which is in network order, as two halves. */
#define HALVES(ip6, high, low)                                                                                         \
	do {                                                                                                           \
		high = (__u64)bpf_ntohl(ip6[0]) << 32 | bpf_ntohl(ip6[1]);                                             \
		low = (__u64)bpf_ntohl(ip6[2]) << 32 | bpf_ntohl(ip6[3]);                                              \
	} while (0)

/* Searches by port in a table of more than 8 ranges. A function of its own, verified once. */
__noinline __u32 large_ports(__u32 cell, __u32 key)
{
	__u32 zero = 0;
	const void *base = bpf_map_lookup_elem(&inlet_image, &zero);

	if (!base)
		return LEAF_MISS;
	return search32(base, *(const __u32 *)at(base, cfg.cells + (__u64)cell), key, cfg.levels)->ports;
}

/* Searches by source or interface, whichever the leaf says. */
static __always_inline __u32 condition(struct bpf_sk_lookup *ctx, const void *base, __u32 leaf)
{
	__u32 entry = *(const __u32 *)at(base, cfg.cells + (__u64)leaf_number(leaf));
	__u64 high, low;

	if (leaf_kind(leaf) == LEAF_BY_SOURCE && ctx->family == AF_INET6) {
		HALVES(ctx->remote_ip6, high, low);
		return search128(base, entry, high, low, cfg.levels)->ports;
	}
	low = leaf_kind(leaf) == LEAF_BY_IFACE ? ctx->ingress_ifindex : bpf_ntohl(ctx->remote_ip4);
	return search32(base, entry, low, cfg.levels)->ports;
}

/* From a leaf that needs further searches to one that does not. A function of its own, verified once. */
__noinline __u32 resolve(struct bpf_sk_lookup *ctx, __u32 leaf)
{
	__u32 zero = 0;
	const void *base = bpf_map_lookup_elem(&inlet_image, &zero);

	if (!base)
		return LEAF_MISS;
	for (int step = 0; step < MAX_STEPS; step++) {
		if (step >= cfg.steps || leaf_kind(leaf) < LEAF_BY_SOURCE)
			break;
		leaf = condition(ctx, base, leaf);
	}
	return leaf;
}

/* The leaf that a port table has for the packet. */
static __always_inline __u32 by_port(struct bpf_sk_lookup *ctx, const void *base, __u32 table, __u32 key)
{
	const struct ports *p;
	__u64 rank;
	__u32 leaf;

	if (cfg.large_ports && table & PORTS_LARGE) {
		leaf = large_ports(table & ~PORTS_LARGE, key);
	} else {
		p = at(base, cfg.cells + (__u64)table);
		rank = le32(p->key[4], key) * 4;
		rank += le32(p->key[rank + 2], key) * 2;
		rank += le32(p->key[rank + 1], key);
		leaf = p->leaf[rank];
	}
	if (cfg.steps && leaf_kind(leaf) >= LEAF_BY_SOURCE)
		leaf = resolve(ctx, leaf);
	return leaf;
}

/* No rule of the longest prefix matches: what the next shorter ones say. A function of its own, verified once. */
__noinline __u32 shorter_prefixes(struct bpf_sk_lookup *ctx, __u32 next, __u32 key)
{
	__u32 zero = 0, leaf = LEAF_MISS;
	const void *base = bpf_map_lookup_elem(&inlet_image, &zero);

	if (!base)
		return LEAF_MISS;
	for (int hop = 1; hop < MAX_HOPS; hop++) {
		const struct value *value;

		if (hop >= cfg.hops || leaf != LEAF_MISS || !next)
			break;
		value = at(base, cfg.chain + 2 * (__u64)next);
		next = value->next;
		leaf = by_port(ctx, base, value->ports, key);
	}
	return leaf;
}

/* The leaf for a packet: never one that needs a further search. */
static __always_inline __u32 image_lookup(struct bpf_sk_lookup *ctx)
{
	__u32 key = ctx->local_port | (ctx->protocol == IPPROTO_UDP) << 16;
	__u32 zero = 0, leaf, next;
	const void *base = bpf_map_lookup_elem(&inlet_image, &zero);
	const struct value *value;
	__u64 high, low;

	if (!base)
		return LEAF_MISS;
	if (cfg.v4.used && ctx->family == AF_INET) {
		value = local4(base, bpf_ntohl(ctx->local_ip4));
	} else if (cfg.v6.used && ctx->family == AF_INET6) {
		HALVES(ctx->local_ip6, high, low);
		value = local6(base, high, low);
	} else {
		return LEAF_MISS;
	}
	if (!value->ports)
		return LEAF_MISS;
	next = value->next;
	leaf = by_port(ctx, base, value->ports, key);
	if (cfg.hops > 1 && leaf == LEAF_MISS && next)
		leaf = shorter_prefixes(ctx, next, key);
	return leaf;
}
