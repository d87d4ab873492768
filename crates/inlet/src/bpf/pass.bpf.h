/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lookup lets a datagram pass that answers a client of the host.
 */
#pragma once
#include "clients.bpf.h"
#include "give.bpf.h"

/* Whether a datagram comes from whom a client asked that is bound to the address it was sent to, or to any. */
static __noinline int is_answer(struct bpf_sk_lookup *ctx, __u32 now)
{
	struct flow flow = {.own_port = ctx->local_port};

	set_flow(ctx, &flow, flow.own);
	if (is_lately(bpf_map_lookup_elem(&inlet_clients, &flow), now))
		return 1;
	flow.own[3] = 0;
	if (ctx->family == AF_INET6) {
		flow.own[0] = 0;
		flow.own[1] = 0;
		flow.own[2] = 0;
	}
	return is_lately(bpf_map_lookup_elem(&inlet_clients, &flow), now);
}

/* The same, with two tests at most for datagrams to ports from which no client asked. */
static __always_inline bool answers_client(struct bpf_sk_lookup *ctx)
{
	const __u32 *tick;
	__u32 now;

	if (!is_udp(ctx) || !is_packet(ctx) || !is_client_port(ctx->local_port))
		return false;
	tick = tick_of_port(ctx->local_port);
	if (!tick || !*tick)
		return false;
	now = tick_now();
	return is_lately(tick, now) && is_answer(ctx, now);
}
