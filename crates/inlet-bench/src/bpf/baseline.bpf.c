/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What Inlet is compared with: a program that does nothing (the floor), and the
 * usual design for steering, which looks a packet up in an LPM trie twice: with
 * its port, and with port 0 for rules about any port. The longer prefix wins,
 * of two equal ones the one with the port. Of what Inlet can say it knows
 * neither ranges of ports nor sources.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2

/* IPv4 addresses are in 4-in-6 form. */
struct key {
	__u32 bits; /* of what follows: 32 and those of the prefix */
	__u8 protocol;
	__u8 zero;
	__u16 port; /* network order; 0 for any */
	__u32 address[4];
};

struct binding {
	__u32 bits;
	__u32 destination; /* a service and a protocol */
};

struct counters {
	__u64 packets;
	__u64 missing;
	__u64 bad_socket;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct key);
	__type(value, struct binding);
} bench_trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} bench_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct counters);
} bench_counters SEC(".maps");

SEC("sk_lookup")
int bench_empty(struct bpf_sk_lookup *ctx)
{
	return SK_PASS;
}

static __always_inline struct binding *binding_of(struct bpf_sk_lookup *ctx)
{
	struct key key = {
		.bits = 32 + 128,
		.protocol = ctx->protocol,
		.port = bpf_htons(ctx->local_port),
	};
	struct binding *one, *any;

	if (ctx->family == AF_INET) {
		__u32 address = ctx->local_ip4;

		/* Keeps clang from making one load of the two branches, with an offset the
		 * verifier does not take. */
		asm volatile("" : "+r"(address));
		key.address[2] = bpf_htonl(0xffff);
		key.address[3] = address;
	} else {
		key.address[0] = ctx->local_ip6[0];
		key.address[1] = ctx->local_ip6[1];
		key.address[2] = ctx->local_ip6[2];
		key.address[3] = ctx->local_ip6[3];
	}
	one = bpf_map_lookup_elem(&bench_trie, &key);
	key.port = 0;
	any = bpf_map_lookup_elem(&bench_trie, &key);
	if (!one || (any && any->bits > one->bits))
		return any;
	return one;
}

/* Like Inlet's program it counts packets and not test runs, which have no
 * interface: here all of them are test runs, so none of the programs compared
 * pays for counting. */
static __always_inline int give_to(struct bpf_sk_lookup *ctx, __u32 destination)
{
	struct counters *count = ctx->ingress_ifindex ? bpf_map_lookup_elem(&bench_counters, &destination) : NULL;
	struct bpf_sock *sk;
	int err;

	if (count)
		count->packets++;
	sk = bpf_map_lookup_elem(&bench_sockets, &destination);
	if (!sk) {
		if (count)
			count->missing++;
		return SK_DROP;
	}
	err = bpf_sk_assign(ctx, sk, 0);
	if (err && count)
		count->bad_socket++;
	bpf_sk_release(sk);
	return err ? SK_DROP : SK_PASS;
}

SEC("sk_lookup")
int bench_lpm(struct bpf_sk_lookup *ctx)
{
	struct binding *binding = binding_of(ctx);

	return binding ? give_to(ctx, binding->destination) : SK_PASS;
}

/* What every program pays that gives packets to sockets, however it finds the
 * destination: here it is always the first TCP or UDP socket. */
SEC("sk_lookup")
int bench_give(struct bpf_sk_lookup *ctx)
{
	return give_to(ctx, ctx->protocol == IPPROTO_UDP);
}

/* What every program pays that is called for the events of connections. */
SEC("sockops")
int bench_no_event(struct bpf_sock_ops *ctx)
{
	return 1;
}

/* What every program pays that is called for the sends of unconnected sockets, and for each packet that leaves. */
SEC("cgroup/sendmsg4")
int bench_no_send(struct bpf_sock_addr *ctx)
{
	return 1;
}

SEC("tc")
int bench_no_packet(struct __sk_buff *skb)
{
	return -1; /* on to the next program: TCX_NEXT */
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
