/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Puts sockets that are in the map into other slots of it, for a lane that moves. Only the kernel can: user space gets
 * no descriptor of a socket in a map.
 */
#include <linux/bpf.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_TYPE __attribute__((preserve_access_index))

struct sock;

struct bpf_iter__sockmap {
	__u32 *key;
	struct sock *sk;
} KERNEL_TYPE;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inlet_sockets SEC(".maps");

/* Where the socket of a slot goes, and then whether it went: 0 or the error. */
struct copy {
	__u32 slot;
	__s32 error;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct copy);
} inlet_copies SEC(".maps");

SEC("iter/sockmap")
int inlet_copy(struct bpf_iter__sockmap *ctx)
{
	__u32 *key = ctx->key;
	struct sock *sk = ctx->sk;
	struct copy *copy;
	__u32 from;

	if (!key || !sk)
		return 0;
	from = *key;
	copy = bpf_map_lookup_elem(&inlet_copies, &from);
	if (!copy)
		return 0;
	from = copy->slot;
	copy->error = bpf_map_update_elem(&inlet_sockets, &from, sk, BPF_NOEXIST);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
