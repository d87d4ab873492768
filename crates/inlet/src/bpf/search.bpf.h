/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Searches: which interval of an image a key is in. The same in plain Rust is inlet-core's walk.rs; when the two
 * differ, one of them is wrong.
 *
 * Every place in the image is bounded by at(), whatever the image says.
 */
#pragma once
#include "format.bpf.h"

/* The place in the image, or some other one when it is not one to be searched. A whole block can be read from it. The
 * bound of a large image is written in assembly because the compiler would check one register and use another; the
 * verifier walks on with what it comes to first, which is to be the place that can be any, so that it needs not walk
 * what follows again for 0. */
static __always_inline const void *at(__u64 word)
{
	__u64 mask = constant(search_mask);

	if (mask) {
		word &= mask;
	} else {
		__u64 end = constant(search_words);

		asm volatile("if %0 >= %1 goto +1\n\t"
			     "goto +1\n\t"
			     "%0 = 0"
			     : "+r"(word)
			     : "r"(end));
	}
	return (const void *)inlet_image + word * sizeof(__u32);
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
static __always_inline __u64 leq32(__u32 key, __u64 wanted)
{
	return top_bit(key + ~wanted);
}

/* 1 when a - b needs a borrow: a < b. */
static __always_inline __u64 borrows(__u64 a, __u64 b)
{
	return top_bit((~a & b) | (~(a ^ b) & (a - b)));
}

/* The same for 128 bits: there is no borrow in wanted - key. Low half first. */
static __always_inline __u64 leq128(__u64 key_high, __u64 key_low, __u64 high, __u64 low)
{
	__u64 borrow = borrows(low, key_low);

	return top_bit(~((~high & key_high) | (~(high ^ key_high) & (high - key_high - borrow))));
}

static __always_inline __u64 window_at(__u64 value, __u64 first, __u32 shift, __u32 count)
{
	__u64 entry = value < first ? 0 : (value - first) >> shift;

	return entry < count ? entry : count - 1;
}

/* The half of a 128-bit key that the window lies in; outside of it, what leads to the first or last entry. */
static __always_inline __u64 window_half(__u64 high, __u64 low, __u64 flags, __u64 node_high)
{
	__u64 distance = high ^ node_high;
	__u64 outside = -top_bit(distance | -distance);
	__u64 in_low_half = -(flags / LOW_HALF & 1);

	low = (low & ~outside) | (outside & (borrows(high, node_high) - 1));
	return (low & in_low_half) | (high & ~in_low_half);
}

static __always_inline __u64 block32_place(__u64 block)
{
	return constant(blocks32) + block * BLOCK_WORDS;
}

static __always_inline __u64 block128_place(__u64 block)
{
	return constant(blocks128) + block * BLOCK_WORDS;
}

static __always_inline const struct block32 *block32(__u64 block)
{
	return at(block32_place(block));
}

static __always_inline const struct block128 *block128(__u64 block)
{
	return at(block128_place(block));
}

/* Where the entry of a node's index is for a window's value. */
static __always_inline __u64 entry_place(const struct node *node, __u64 place, __u64 value)
{
	return place + NODE_WORDS + window_at(value, node->first, node->flags & SHIFT, node->count);
}

/* Of the blocks of a node to bisect, the last one whose first key is not above the key. Rare: only keys that several
 * levels of indexes could not tell apart. A function of its own, verified once. */
__noinline __u32 bisect32(__u32 place, __u32 key)
{
	const struct node *node = at(place);
	__u32 block = node->first;
	__u32 left = node->count;

	for (int i = 0; i < MAX_BISECTIONS && left > 1; i++) {
		__u32 half = left / 2;

		if (block32(block + half)->key[0] <= key)
			block += half;
		left -= half;
	}
	return block;
}

__noinline __u32 bisect128(__u32 place, __u64 high, __u64 low)
{
	const struct node *node = at(place);
	__u32 block = node->first;
	__u32 left = node->count;

	for (int i = 0; i < MAX_BISECTIONS && left > 1; i++) {
		__u32 half = left / 2;
		const struct block128 *b = block128(block + half);

		if (b->key[0].high < high || (b->key[0].high == high && b->key[0].low <= low))
			block += half;
		left -= half;
	}
	return block;
}

/* The place of the value that a search has for a key. Functions of their own, verified once, which cannot return a
 * pointer. */
__noinline __u64 search32(__u32 entry, __u32 key)
{
	__u64 block, rank;
	const struct block32 *b;

	for (int level = 0; level < MAX_LEVELS; level++) {
		__u64 place = constant(index) + ENTRY_PLACE(entry);
		const struct node *node;

		if (level >= constant(levels) || ENTRY_KIND(entry) != ENTRY_NODE)
			break;
		node = at(place);
		if (constant(bisect) && node->flags & NODE_BISECT) {
			entry = bisect32(place, key);
			break;
		}
		entry = *(const __u32 *)at(entry_place(node, place, key));
	}
	block = ENTRY_PLACE(entry);
	if (ENTRY_KIND(entry)) {
		__u64 more = leq32(block32(block + 1)->key[0], key);

		if (ENTRY_KIND(entry) > 1)
			more += leq32(block32(block + 2)->key[0], key);
		block += more;
	}
	b = block32(block);
	rank = leq32(b->key[5], key) * 5;
	rank += leq32(b->key[rank + 1], key) + leq32(b->key[rank + 2], key) + leq32(b->key[rank + 3], key) +
		leq32(b->key[rank + 4], key);
	return block32_place(block) + offsetof(struct block32, value) / sizeof(__u32) + VALUE_WORDS * rank;
}

__noinline __u64 search128(__u32 entry, __u64 high, __u64 low)
{
	__u64 block, rank = 0;
	const struct block128 *b;

	for (int level = 0; level < MAX_LEVELS; level++) {
		__u64 place = constant(index) + ENTRY_PLACE(entry);
		const struct node *node;
		__u64 half;

		if (level >= constant(levels) || ENTRY_KIND(entry) != ENTRY_NODE)
			break;
		node = at(place);
		half = window_half(high, low, node->flags, node->high);
		if (constant(bisect) && node->flags & NODE_BISECT) {
			entry = bisect128(place, high, low);
			break;
		}
		entry = *(const __u32 *)at(entry_place(node, place, half));
	}
	block = ENTRY_PLACE(entry);
	if (ENTRY_KIND(entry)) {
		__u64 more;

		b = block128(block + 1);
		more = leq128(b->key[0].high, b->key[0].low, high, low);
		if (ENTRY_KIND(entry) > 1) {
			b = block128(block + 2);
			more += leq128(b->key[0].high, b->key[0].low, high, low);
		}
		block += more;
	}
	b = block128(block);
#pragma unroll
	for (int i = 1; i < 5; i++)
		rank += leq128(b->key[i].high, b->key[i].low, high, low);
	return block128_place(block) + offsetof(struct block128, value) / sizeof(__u32) + VALUE_WORDS * rank;
}
