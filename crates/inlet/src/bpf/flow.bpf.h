/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The hash of a flow, which chooses among the sockets of a service.
 *
 * SipHash with one round for each word and three at the end, over the 4-tuple. The key is the instance's own and
 * secret, so that no client can choose the socket that its connections go to.
 */
#pragma once
#include "format.bpf.h"

struct sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate(__u64 value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static __always_inline void sip_round(struct sip *sip)
{
	sip->v0 += sip->v1;
	sip->v1 = rotate(sip->v1, 13) ^ sip->v0;
	sip->v0 = rotate(sip->v0, 32);
	sip->v2 += sip->v3;
	sip->v3 = rotate(sip->v3, 16) ^ sip->v2;
	sip->v0 += sip->v3;
	sip->v3 = rotate(sip->v3, 21) ^ sip->v0;
	sip->v2 += sip->v1;
	sip->v1 = rotate(sip->v1, 17) ^ sip->v2;
	sip->v2 = rotate(sip->v2, 32);
}

static __always_inline void sip_word(struct sip *sip, __u64 word)
{
	sip->v3 ^= word;
	sip_round(sip);
	sip->v0 ^= word;
}

/* The bytes of the message stand in the last word's highest byte. */
#define SIP_LENGTH(bytes) ((__u64)(bytes) << 56)

static __always_inline __u32 flow_hash(struct bpf_sk_lookup *ctx)
{
	/* "somepseudorandomlygeneratedbytes", as the algorithm has it. */
	struct sip sip = {
		.v0 = constant(flow_key[0]) ^ 0x736f6d6570736575,
		.v1 = constant(flow_key[1]) ^ 0x646f72616e646f6d,
		.v2 = constant(flow_key[0]) ^ 0x6c7967656e657261,
		.v3 = constant(flow_key[1]) ^ 0x7465646279746573,
	};
	__u64 ports = ctx->local_port << 16 | ctx->remote_port;

	if (ctx->family == AF_INET) {
		sip_word(&sip, (__u64)ctx->local_ip4 << 32 | ctx->remote_ip4);
		sip_word(&sip, SIP_LENGTH(12) | ports);
	} else {
		sip_word(&sip, (__u64)ctx->remote_ip6[0] << 32 | ctx->remote_ip6[1]);
		sip_word(&sip, (__u64)ctx->remote_ip6[2] << 32 | ctx->remote_ip6[3]);
		sip_word(&sip, (__u64)ctx->local_ip6[0] << 32 | ctx->local_ip6[1]);
		sip_word(&sip, (__u64)ctx->local_ip6[2] << 32 | ctx->local_ip6[3]);
		sip_word(&sip, SIP_LENGTH(36) | ports);
	}
	sip.v2 ^= 0xff;
	sip_round(&sip);
	sip_round(&sip);
	sip_round(&sip);
	return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}
