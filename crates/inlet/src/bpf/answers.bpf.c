/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where answers over UDP leave from.
 *
 * inlet_answer4 and inlet_answer6 run for every send of an unconnected UDP socket, at the root of the control groups,
 * before routing and netfilter. They set the source address, and note what clients of the host ask. inlet_answer_port
 * runs for every packet that leaves through an interface. It sets the source port, which no socket can choose for one
 * datagram. Both find the place that the lookup noted (note.bpf.h), and leave everything else as it is.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "answers.bpf.h"
#include "clients.bpf.h"
#include "handed.bpf.h"
#include "leaving.bpf.h"
#include "question.bpf.h"

#define AF_INET 2

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct covered);
} inlet_covered SEC(".maps");

/* Keeps when an answer was sent, where that counts. */
static __always_inline void tell_sent(struct asked *asked)
{
	__u64 now;

	if (!asked->sent)
		return;
	now = bpf_ktime_get_coarse_ns();
	if (now - asked->sent > OFTEN)
		asked->sent = now;
}

/* What a send may be: an answer that has to leave from elsewhere, or a question whose answer a rule would take. */
#define ANSWER 1
#define QUESTION 2

/* Two tests for the sends of others. Tells how often the table of flows was changed, which is asked afterwards. */
static __always_inline int kind_of_send(struct bpf_sock_addr *ctx, struct bpf_sock *sk, __u32 *changes)
{
	__u32 zero = 0;
	struct bound_ports *bound = bpf_map_lookup_elem(&inlet_bound, &zero);
	int kind = 0;

	if (bound && has_port(bound->address, sk->src_port)) {
		*changes = table_changes();
		kind |= ANSWER;
	}
	if (is_client_port(sk->src_port))
		kind |= QUESTION;
	return kind && bpf_get_netns_cookie(ctx) == answering.netns ? kind : 0;
}

/* Where a datagram of this source was asked. Usually it is where the flow asked last; a program that chooses its source
 * itself may answer at another address. */
static __always_inline const struct asked *asked_at(struct flow *flow, const struct asked *asked, const __u32 source[4])
{
	if (asked && !same_address(asked->addr, source)) {
		COPY_ADDRESS(flow->own, source);
		asked = bpf_map_lookup_elem(&inlet_flows, flow);
	}
	return asked && same_address(asked->addr, source) && asked->port != flow->own_port ? asked : NULL;
}

/* Whether the question came in through an interface without the program that sets ports. */
static __always_inline bool came_bare(const struct asked *asked)
{
	__u32 zero = 0;
	struct covered *covered = bpf_map_lookup_elem(&inlet_covered, &zero);

	return covered && !has_port(covered->interface, asked->interface);
}

/* Hands over the port of an answer that needs it, and counts one whose question came in through such an interface.
 * Where it leaves is not known yet: usually where the question came in. */
static __always_inline void hand_over(struct flow *flow, const struct asked *asked, const __u32 source[4],
				      __u32 changes)
{
	struct handed handed = {.changes = changes}, *slot = handed_slot();

	if (!slot)
		return;
	COPY_ADDRESS(handed.own, flow->own);
	asked = asked_at(flow, asked, source);
	if (!asked)
		return;
	COPY_ADDRESS(handed.source, source);
	COPY_ADDRESS(handed.remote, flow->remote);
	handed.remote_port = flow->remote_port;
	handed.own_port = flow->own_port;
	handed.port = asked->port;
	handed.bare = came_bare(asked);
	handed.together = together(&handed);
	*slot = handed;
	if (handed.bare)
		COUNT(bare);
}

SEC("cgroup/sendmsg4")
int inlet_answer4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct asked *asked;
	__u32 source[4], changes = 0;
	struct flow flow = {};
	int kind;

	if (!sk)
		return 1;
	kind = kind_of_send(ctx, sk, &changes);
	if (!kind)
		return 1;
	map_address(flow.remote, ctx->user_ip4);
	map_address(flow.own, sk->src_ip4);
	flow.remote_port = ctx->user_port;
	flow.own_port = sk->src_port;
	asked = kind & ANSWER ? bpf_map_lookup_elem(&inlet_flows, &flow) : NULL;
	if (!asked) {
		if (ctx->msg_src_ip4)
			map_address(flow.own, ctx->msg_src_ip4);
		if (kind & QUESTION) {
			if (!ctx->user_ip4)
				map_address(flow.remote, flow.own[3] ?: bpf_htonl(INADDR_LOOPBACK));
			note_question(sk, &flow);
		}
		return 1;
	}
	tell_sent(asked);
	/* What a socket is bound to stands there before anybody chooses. Anything else is the program's own choice. */
	if (!(ctx->msg_src_ip4 && ctx->msg_src_ip4 != sk->src_ip4) && asked->addr[3] != ctx->msg_src_ip4) {
		ctx->msg_src_ip4 = asked->addr[3];
		COUNT(addressed);
	}
	map_address(source, ctx->msg_src_ip4);
	hand_over(&flow, asked, source, changes);
	return 1;
}

SEC("cgroup/sendmsg6")
int inlet_answer6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct asked *asked;
	__u32 chosen[4], changes = 0;
	struct flow flow = {};
	int kind;

	if (!sk)
		return 1;
	kind = kind_of_send(ctx, sk, &changes);
	if (!kind)
		return 1;
	COPY_ADDRESS(chosen, ctx->msg_src_ip6);
	COPY_ADDRESS(flow.own, sk->src_ip6);
	COPY_ADDRESS(flow.remote, ctx->user_ip6);
	flow.remote_port = ctx->user_port;
	flow.own_port = sk->src_port;
	asked = kind & ANSWER ? bpf_map_lookup_elem(&inlet_flows, &flow) : NULL;
	if (!asked) {
		if (!is_any(chosen))
			COPY_ADDRESS(flow.own, chosen);
		if (kind & QUESTION) {
			if (is_any(flow.remote))
				flow.remote[3] = bpf_htonl(1);
			note_question(sk, &flow);
		}
		return 1;
	}
	tell_sent(asked);
	if (!is_any(chosen) && !same_address(chosen, flow.own)) {
		hand_over(&flow, asked, chosen, changes);
		return 1;
	}
	if (!same_address(asked->addr, chosen)) {
		COPY_ADDRESS(ctx->msg_src_ip6, asked->addr);
		COUNT(addressed);
	}
	hand_over(&flow, asked, asked->addr, changes);
	return 1;
}

/* The packet goes on to the next program or filter: TCX_NEXT for tcx, TC_ACT_UNSPEC for clsact. */
#define NEXT -1

/* Sets the source port. A packet that is yet to be segmented has the seed of its checksum in the field, without the
 * port; in any other the sum is corrected, where there is one. */
static __always_inline void set_source_port(struct __sk_buff *skb, __u32 udp, __u16 old, __u16 new)
{
	if (!skb->gso_size)
		bpf_l4_csum_replace(skb, udp + 6, old, new, sizeof(new) | BPF_F_MARK_MANGLED_0);
	bpf_skb_store_bytes(skb, udp, &new, sizeof(new), 0);
}

/* Sets the source port of a packet that a program for sends announced. */
static __always_inline bool handed_over(struct __sk_buff *skb, struct bpf_sock *sk, bool is_v4)
{
	__u32 udp = is_v4 ? offsetof(struct usual4, ports) : offsetof(struct usual6, ports);
	struct handed handed, *slot = handed_slot();

	if (!slot || !slot->own_port)
		return false;
	/* Looked at as it is now: another send may come in between. */
	handed = *slot;
	asm volatile("" ::"r"(&handed) : "memory");
	if (handed.changes != table_changes() || handed.together != together(&handed))
		return false;
	if (is_v4 ? !is_sent4(skb, sk, &handed) : !is_sent6(skb, sk, &handed))
		return false;
	set_source_port(skb, udp, bpf_htons(handed.own_port), bpf_htons(handed.port));
	if (handed.bare)
		COUNT(bare_set);
	/* For one packet only. */
	slot->own_port = 0;
	return true;
}

/* Sets the source port of a packet by what the table has of its flow. */
static __noinline int look_up_port(struct __sk_buff *skb, int is_v4)
{
	struct bpf_sock *sk = skb->sk;
	struct leaving leaving = {};
	const struct asked *asked;
	struct flow flow = {};
	__u16 ports[2], new;
	__u32 udp;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->protocol != IPPROTO_UDP)
		return 0;
	if (is_v4) {
		if (!read4(skb, &leaving))
			return 0;
		map_address(flow.own, sk->src_ip4);
	} else {
		if (!read6(skb, &leaving))
			return 0;
		COPY_ADDRESS(flow.own, sk->src_ip6);
	}
	udp = leaving.network + leaving.udp;
	if (bpf_skb_load_bytes(skb, udp, ports, sizeof(ports)) || ports[0] != bpf_htons(sk->src_port))
		return 0;
	flow.own_port = sk->src_port;
	flow.remote_port = ports[1];
	COPY_ADDRESS(flow.remote, leaving.remote);
	asked = asked_at(&flow, bpf_map_lookup_elem(&inlet_flows, &flow), leaving.source);
	if (!asked)
		return 0;
	new = bpf_htons(asked->port);
	set_source_port(skb, udp, ports[0], new);
	COUNT(rewritten);
	/* What a connected socket sends was not counted before. */
	if (came_bare(asked) && !sk->dst_port)
		COUNT(bare_set);
	return 0;
}

SEC("tc")
int inlet_answer_port(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct bound_ports *bound;
	__u32 zero = 0;
	int version;

	/* A packet of another namespace has no socket here. */
	if (!sk)
		return NEXT;
	bound = bpf_map_lookup_elem(&inlet_bound, &zero);
	if (!bound || !has_port(bound->port, sk->src_port))
		return NEXT;
	version = version_of(skb);
	if (!version)
		return NEXT;
	if (handed_over(skb, sk, version == 4))
		COUNT(rewritten);
	else
		look_up_port(skb, version == 4);
	return NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
