/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How described sockets find their services.
 *
 *   inlet_listen      runs inside listen() and puts a TCP listener into its service before the call returns
 *   inlet_bind4, 6    run inside bind() and report UDP sockets at described ports to `inlet watch`
 *   inlet_own4, 6     run inside bind() too, before; see own.bpf.h for them and inlet_name4, 6
 *   inlet_socket      runs inside socket() and refuses multipath TCP to programs that are to have plain TCP
 *   inlet_find_tcp,   go through the sockets that exist: tell which ones are wanted, and put those in that user space
 * has inlet_find_udp    a place for
 */
#include <asm-generic/errno.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define AF_INET 2
#define AF_INET6 10

#include "lanes.bpf.h"
#include "wants.bpf.h"
#include "plain.bpf.h"
#include "own.bpf.h"

/* Why a listener that a service wants does not get in, beside the errors of the kernel. */
#define REFUSED_MPTCP 2
#define REFUSED_FULL 3

/* The last listener of a service that did not get in, and how many there were. */
struct refusal {
	__u64 count;
	__u64 when; /* nanoseconds since the machine started */
	__u32 reason;
	__s32 error;
	__u32 port; /* host order */
	__u32 pid;
	__u8 addr[16];
	char command[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct refusal);
} inlet_refusals SEC(".maps");

/* Ports at which a UDP socket was bound, for the watcher. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} inlet_binds SEC(".maps");

/* Where user space wants a socket, by its cookie: a slot plus 1 for each family. */
struct place {
	__u32 slot[2];
	__s32 error[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct place);
} inlet_places SEC(".maps");

/* A wanted socket, as the iterators tell it. */
struct found {
	__u64 cookie;
	__u32 service;
	__u32 port; /* with the protocol's bit */
	__u32 v4;
	__u32 v6;
	__u8 addr[16];
	__u32 device; /* the interface that it is bound to */
	__u32 unused;
};

static __always_inline void refuse(__u32 service, const struct bound *bound, __u32 reason, int error)
{
	const struct refusal *before = bpf_map_lookup_elem(&inlet_refusals, &service);
	struct task_struct *task = bpf_get_current_task_btf();
	struct refusal refusal = {.count = 1, .reason = reason, .error = error};

	if (before)
		refusal.count = before->count + 1;
	refusal.when = bpf_ktime_get_ns();
	refusal.port = bound->key.port & 0xffff;
	__builtin_memcpy(refusal.addr, bound->key.addr, sizeof(refusal.addr));
	refusal.pid = task->tgid;
	bpf_core_read(refusal.command, sizeof(refusal.command), &task->comm);
	bpf_map_update_elem(&inlet_refusals, &service, &refusal, BPF_ANY);
}

/* Looking for an empty slot. */
struct search {
	struct bpf_sock_ops *ctx;
	__u32 first;
	__u32 at;
	int error;
};

static long try_slot(__u32 at, struct search *search)
{
	__u32 slot = search->first + at;

	search->at = at;
	search->error = bpf_sock_map_update(search->ctx, &inlet_sockets, &slot, BPF_NOEXIST);
	return search->error != -EEXIST;
}

/* How often a word is tried to be swapped before the listener gives up, and how often a lane may move meanwhile. */
#define SWAPS 64
#define MOVES 4

/* Shows a slot of the range that was seen: false when the lane has another one now, or gives it back. */
static __always_inline bool show(__u64 *lane, __u64 seen, __u32 at)
{
	for (int i = 0; i < SWAPS; i++) {
		__u64 word = *(volatile __u64 *)lane;
		__u64 shown = (word & ~((__u64)LANE_COUNT_MASK << LANE_SHOWN_SHIFT)) | (__u64)(at + 1)
											       << LANE_SHOWN_SHIFT;

		if ((word ^ seen) & (LANE_FIRST_MASK | LANE_RETIRED) || lane_owned(word) <= at)
			return false;
		if (lane_shown(word) > at || __sync_val_compare_and_swap(lane, word, shown) == word)
			return true;
	}
	return false;
}

/* Puts the listener into an empty slot of a lane and shows it: 0, or why not. -ENOENT is a service that goes. */
static __noinline int put_in(struct bpf_sock_ops *ctx, __u32 key)
{
	__u64 *lane = bpf_map_lookup_elem(&inlet_lanes, &key);

	if (!lane)
		return -ENOENT;
	for (int i = 0; i < MOVES; i++) {
		__u64 word = *(volatile __u64 *)lane;
		struct search search = {.ctx = ctx, .first = lane_first(word), .error = -EEXIST};

		if (word & LANE_RETIRED || !word)
			return -ENOENT;
		bpf_loop(lane_owned(word), try_slot, &search, 0);
		if (search.error)
			return search.error;
		if (show(lane, word, search.at))
			return 0;
		/* The lane moved. What was left in the range before goes with it. */
	}
	return -EEXIST;
}

SEC("sockops")
int inlet_listen(struct bpf_sock_ops *ctx)
{
	struct tcp_sock *tcp;
	struct bpf_sock *socket = ctx->sk;
	struct bound bound;
	__u32 service;
	int error = 0;

	if (ctx->op != BPF_SOCK_OPS_TCP_LISTEN_CB) {
		/* What the kernel takes for no answer, unless another program gave one. */
		if (!ctx->reply)
			ctx->reply = -1;
		return 1;
	}
	tcp = socket ? bpf_skc_to_tcp_sock(socket) : NULL;
	if (!tcp)
		return 1;
	bound_of(&tcp->inet_conn.icsk_inet.sk, false, &bound);
	service = service_for(&tcp->inet_conn.icsk_inet.sk, &bound);
	if (!service)
		return 1;
	/* A listener of another network namespace is none of ours. */
	if (bpf_get_netns_cookie(ctx) != adopting.netns)
		return 1;
	if (bound.v4)
		error = put_in(ctx, lane_key(service, false, false));
	if (!error && bound.v6)
		error = put_in(ctx, lane_key(service, true, false));
	if (error == -EEXIST)
		refuse(service, &bound, REFUSED_FULL, 0);
	else if (error && error != -ENOENT)
		refuse(service, &bound, BPF_CORE_READ_BITFIELD(tcp, is_mptcp) ? REFUSED_MPTCP : 0, error);
	return 1;
}

static __always_inline int report_bind(struct bpf_sock *ctx)
{
	__u32 port = PORT_KEY(ctx->src_port, true);
	bool moved = asked_for(&adopting.own, ctx->src_port);

	if (ctx->protocol == IPPROTO_UDP && (moved || bpf_map_lookup_elem(&inlet_ports, &port)) &&
	    bpf_get_netns_cookie(ctx) == adopting.netns)
		bpf_ringbuf_output(&inlet_binds, &port, sizeof(port), 0);
	return 1;
}

SEC("cgroup/post_bind4")
int inlet_bind4(struct bpf_sock *ctx)
{
	return report_bind(ctx);
}

SEC("cgroup/post_bind6")
int inlet_bind6(struct bpf_sock *ctx)
{
	return report_bind(ctx);
}

static __noinline int tell(struct seq_file *seq, struct found *found)
{
	return bpf_seq_write(seq, found, sizeof(*found));
}

/* What becomes of a socket that exists. `socket` is the pointer that the kernel takes into the map of sockets. */
static __always_inline void find(struct seq_file *seq, void *socket, const struct sock *sk, bool udp)
{
	struct found found = {};
	struct bound bound;
	struct place *place;

	bound_of(sk, udp, &bound);
	found.service = service_for(sk, &bound);
	if (!found.service)
		return;
	found.cookie = bpf_get_socket_cookie(socket);
	place = bpf_map_lookup_elem(&inlet_places, &found.cookie);
	for (int family = 0; place && family < 2; family++) {
		__u32 slot = place->slot[family] - 1;

		if (place->slot[family])
			place->error[family] = bpf_map_update_elem(&inlet_sockets, &slot, socket, BPF_NOEXIST);
	}
	found.port = bound.key.port;
	found.v4 = bound.v4;
	found.v6 = bound.v6;
	found.device = sk->__sk_common.skc_bound_dev_if;
	__builtin_memcpy(found.addr, bound.key.addr, sizeof(found.addr));
	tell(seq, &found);
}

SEC("iter/tcp")
int inlet_find_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tcp;

	if (!common || common->skc_state != TCP_LISTEN)
		return 0;
	tcp = bpf_skc_to_tcp_sock(common);
	if (tcp)
		find(ctx->meta->seq, common, &tcp->inet_conn.icsk_inet.sk, false);
	return 0;
}

SEC("iter/udp")
int inlet_find_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *udp = ctx->udp_sk;

	if (!udp || udp->inet.sk.__sk_common.skc_state != UDP_UNCONNECTED)
		return 0;
	find(ctx->meta->seq, udp, &udp->inet.sk, true);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
