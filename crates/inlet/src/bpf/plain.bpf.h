/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that get plain TCP: who asks for multipath TCP, which the kernel does not steer, is refused in socket(). A
 * program that prefers it, as Go's do, then takes plain TCP by itself.
 */
#pragma once
#include "wants.bpf.h"

#define IPPROTO_MULTIPATH 262

/* Who gets plain TCP: a user, a control group, or who is both. */
struct plain {
	__u32 has_uid;
	__u32 uid;
	__u32 confine; /* as in struct want */
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plain);
} inlet_plain SEC(".maps");

/* Who makes a socket. */
struct maker {
	__u64 cgroup;
	__u32 uid;
	__u32 is_plain;
};

static long try_plain(__u32 at, struct maker *maker)
{
	const struct plain *plain = bpf_map_lookup_elem(&inlet_plain, &at);

	if (!plain)
		return 1;
	if (plain->has_uid && plain->uid != maker->uid)
		return 0;
	if (plain->confine && !is_in(maker->cgroup, plain->confine - 1))
		return 0;
	maker->is_plain = 1;
	return 1;
}

SEC("cgroup/sock_create")
int inlet_socket(struct bpf_sock *ctx)
{
	struct maker maker = {};
	struct task_struct *task;

	if (ctx->protocol != IPPROTO_MULTIPATH || bpf_get_netns_cookie(ctx) != adopting.netns)
		return 1;
	task = bpf_get_current_task_btf();
	maker.cgroup = (__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp);
	maker.uid = bpf_get_current_uid_gid();
	bpf_loop(adopting.plain, try_plain, &maker, 0);
	return maker.is_plain ? 0 : 1;
}
