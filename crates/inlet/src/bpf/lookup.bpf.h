/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lookup: which leaf of the image is for a packet. First the local address, then the port, then conditions on
 * source and interface; when no rule of the longest prefix matches, the next shorter ones.
 *
 * Everything in `cfg` is fixed before the program is loaded, so the verifier knows it and drops the code that this
 * ruleset does not use.
 */
#pragma once
#include "search.bpf.h"

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
