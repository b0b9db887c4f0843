/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
#ifndef OTEL_OOM_BLOCK_H
#define OTEL_OOM_BLOCK_H
#include "kernel.h"
#include "files.h"
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct gendisk {
	int major;
	int first_minor;
};
struct request_queue {
	struct gendisk *disk;
};
struct bio {
	struct bio *bi_next;
};
struct request {
	struct request_queue *q;
	__u32 cmd_flags;
	__u32 __data_len;
	__u64 __sector;
	struct bio *bio;
	__u64 start_time_ns;
	__u64 io_start_time_ns;
};
struct request___rq_disk {
	struct gendisk *rq_disk;
};
#pragma clang attribute pop
#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
#define REQ_OP_FLUSH 2
#define REQ_OP_DRV_IN 34
#define REQ_OP_DRV_OUT 35

static __always_inline __u32 request_device(struct request *rq)
{
	const struct request___rq_disk *old = (const void *)rq;
	const struct gendisk *disk;

	if (bpf_core_field_exists(old->rq_disk))
		disk = BPF_CORE_READ(old, rq_disk);
	else
		disk = BPF_CORE_READ(rq, q, disk);
	return (__u32)BPF_CORE_READ(disk, major) << 20 | (__u32)BPF_CORE_READ(disk, first_minor);
}
#endif
