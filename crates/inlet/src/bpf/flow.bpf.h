/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The hash of a flow, which chooses among the sockets of a service.
 *
 * Bob Jenkins' lookup3 over the 4-tuple, as the kernel has it for its own choice within a SO_REUSEPORT group
 * (inet_ehashfn in net/ipv4/inet_hashtables.c). It starts from 96 bits that only the instance knows, so that no client
 * can choose the socket that its connections go to. A keyed hash of more rounds costs the verifier a millisecond each
 * commit.
 */
#pragma once
#include "format.bpf.h"

struct jenkins {
	__u32 a, b, c;
};

static __always_inline __u32 rotate(__u32 value, int bits)
{
	return value << bits | value >> (32 - bits);
}

/* Takes three words in. */
static __always_inline void jenkins_mix(struct jenkins *j)
{
	j->a = (j->a - j->c) ^ rotate(j->c, 4);
	j->c += j->b;
	j->b = (j->b - j->a) ^ rotate(j->a, 6);
	j->a += j->c;
	j->c = (j->c - j->b) ^ rotate(j->b, 8);
	j->b += j->a;
	j->a = (j->a - j->c) ^ rotate(j->c, 16);
	j->c += j->b;
	j->b = (j->b - j->a) ^ rotate(j->a, 19);
	j->a += j->c;
	j->c = (j->c - j->b) ^ rotate(j->b, 4);
	j->b += j->a;
}

static __always_inline __u32 jenkins_final(struct jenkins *j)
{
	j->c = (j->c ^ j->b) - rotate(j->b, 14);
	j->a = (j->a ^ j->c) - rotate(j->c, 11);
	j->b = (j->b ^ j->a) - rotate(j->a, 25);
	j->c = (j->c ^ j->b) - rotate(j->b, 16);
	j->a = (j->a ^ j->c) - rotate(j->c, 4);
	j->b = (j->b ^ j->a) - rotate(j->a, 14);
	j->c = (j->c ^ j->b) - rotate(j->b, 24);
	return j->c;
}

static __always_inline __u32 flow_hash(struct bpf_sk_lookup *ctx)
{
	struct jenkins j = {
		.a = constant(flow_key[0]),
		.b = constant(flow_key[0]) >> 32,
		.c = constant(flow_key[1]),
	};

	if (ctx->family == AF_INET) {
		j.a += ctx->local_ip4;
		j.b += ctx->remote_ip4;
	} else {
		j.a += ctx->local_ip6[0];
		j.b += ctx->local_ip6[1];
		j.c += ctx->local_ip6[2];
		jenkins_mix(&j);
		j.a += ctx->local_ip6[3];
		j.b += ctx->remote_ip6[0];
		j.c += ctx->remote_ip6[1];
		jenkins_mix(&j);
		j.a += ctx->remote_ip6[2];
		j.b += ctx->remote_ip6[3];
	}
	j.c += ctx->local_port << 16 | ctx->remote_port;
	return jenkins_final(&j);
}
