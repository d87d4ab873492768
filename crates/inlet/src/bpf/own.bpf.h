/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Own binds: programs of a service bind what they like, and get a port of their own at the same address.
 *
 *   inlet_own4, 6    run inside bind(), before the kernel looks whether the port is free
 *   inlet_name4, 6   run inside getsockname() and give back what was asked for
 */
#pragma once
#include "wants.bpf.h"

/* 2^32 divided by the golden ratio: neighbouring ports begin their search far from each other. */
#define OWN_MIX 0x9e3779b1U
/* How often an entry may be lost to another processor. */
#define OWN_TRIES 8

/* The search for the entry of what is asked. */
struct own_search {
	__u32 wanted;
	__u32 start;
	__u32 found;
	__u32 free;
};

static long try_own(__u32 step, struct own_search *search)
{
	__u32 at = (search->start + step) % (adopting.own.count ?: 1) + 1;
	const volatile __u32 *entry = bpf_map_lookup_elem(&inlet_own_ports, &at);
	__u32 value;

	if (!entry)
		return 1;
	value = *entry;
	if (value == search->wanted) {
		search->found = at;
		return 1;
	}
	if ((!value || value == OWN_FREED) && !search->free)
		search->free = at;
	return !value;
}

/* The port for what a program of a service asks for, the same each time; 0 when none is left. All sockets that ask for
 * one port share one, so that the kernel treats them among each other as ever: SO_REUSEPORT, "address in use". */
static __noinline __u32 own_port(__u32 service, __u32 asked)
{
	__u32 wanted = service << OWN_SERVICE_SHIFT | asked;

	for (int i = 0; i < OWN_TRIES; i++) {
		struct own_search search = {.wanted = wanted, .start = (wanted * OWN_MIX) >> 8};
		__u32 *entry, value;

		bpf_loop(adopting.own.count, try_own, &search, 0);
		if (search.found)
			return adopting.own.first + search.found - 1;
		if (!search.free)
			return 0;
		entry = bpf_map_lookup_elem(&inlet_own_ports, &search.free);
		if (!entry)
			return 0;
		value = *(volatile __u32 *)entry;
		if ((!value || value == OWN_FREED) && __sync_val_compare_and_swap(entry, value, wanted) == value)
			return adopting.own.first + search.free - 1;
	}
	return 0;
}

/* The service that moves what is bound; 0 when none does. */
static __always_inline __u32 moved_by(struct bpf_sock_addr *ctx, struct want_key *key)
{
	struct task_struct *task;
	struct who who = {.moves = true};
	__u32 port = key->port, service;

	/* All that a bind to another port costs. */
	if (!adopting.any_port && !bpf_map_lookup_elem(&inlet_ports, &port))
		return 0;
	if (ctx->sk)
		who.device = ctx->sk->bound_dev_if;
	task = bpf_get_current_task_btf();
	who.cgroup = (__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp);
	who.uid = bpf_get_current_uid_gid();
	service = wanted_by(&who, key);
	if (!service) {
		key->any = 1;
		__builtin_memset(key->addr, 0, sizeof(key->addr));
		service = wanted_by(&who, key);
	}
	if (!service && adopting.any_port) {
		key->port = PORT_KEY(0, port >> 16);
		service = wanted_by(&who, key);
	}
	return service;
}

static __always_inline int in_use(void)
{
	bpf_set_retval(-EADDRINUSE);
	return 0;
}

static __always_inline int own_bind(struct bpf_sock_addr *ctx, struct want_key *key)
{
	__u32 asked = bpf_ntohs((__u16)ctx->user_port), service, port;

	if (!asked || (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP) ||
	    bpf_get_netns_cookie(ctx) != adopting.netns)
		return 1;
	key->port = PORT_KEY(asked, ctx->protocol == IPPROTO_UDP);
	service = moved_by(ctx, key);
	/* A bind of somebody else to a port of the range would be in the way. */
	if (!service)
		return in_range_of(&adopting.own, asked) ? in_use() : 1;
	port = own_port(service, asked);
	if (!port)
		return in_use();
	ctx->user_port = bpf_htons(port);
	return 1;
}

SEC("cgroup/bind4")
int inlet_own4(struct bpf_sock_addr *ctx)
{
	struct want_key key = {};

	key.addr[10] = key.addr[11] = 0xff;
	*(__u32 *)&key.addr[12] = ctx->user_ip4;
	return own_bind(ctx, &key);
}

SEC("cgroup/bind6")
int inlet_own6(struct bpf_sock_addr *ctx)
{
	struct want_key key = {};
	__u32 *addr = (__u32 *)key.addr;

	addr[0] = ctx->user_ip6[0];
	addr[1] = ctx->user_ip6[1];
	addr[2] = ctx->user_ip6[2];
	addr[3] = ctx->user_ip6[3];
	return own_bind(ctx, &key);
}

/* A connection of TCP has the port that its client asked for, which may be any. */
static __always_inline int own_name(struct bpf_sock_addr *ctx)
{
	__u32 asked = asked_for(&adopting.own, bpf_ntohs((__u16)ctx->user_port));
	struct bpf_sock *sk = ctx->sk;

	if (!asked || !sk || bpf_get_netns_cookie(ctx) != adopting.netns)
		return 1;
	if (ctx->protocol != IPPROTO_UDP && sk->state != TCP_LISTEN && sk->state != TCP_CLOSE)
		return 1;
	ctx->user_port = bpf_htons(asked);
	return 1;
}

SEC("cgroup/getsockname4")
int inlet_name4(struct bpf_sock_addr *ctx)
{
	return own_name(ctx);
}

SEC("cgroup/getsockname6")
int inlet_name6(struct bpf_sock_addr *ctx)
{
	return own_name(ctx);
}
