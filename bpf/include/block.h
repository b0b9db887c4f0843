/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * The block layer's types, as far as our programs read them; see kernel.h. Where kernels differ
 * there is a function below, the present kernel first.
 */
#ifndef OTEL_OOM_BLOCK_H
#define OTEL_OOM_BLOCK_H

#include "files.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct address_space {
	struct inode *host;
};

typedef struct {
	unsigned long f;
} memdesc_flags_t;

struct page {
	memdesc_flags_t flags;
	struct address_space *mapping;
	unsigned long compound_info;
};

/* Before "mm: introduce memdesc_flags_t" (v6.18). */
struct page___plain_flags {
	unsigned long flags;
};

/* Before "mm: rename page->compound_head" (v7.0). */
struct page___compound_head {
	unsigned long compound_head;
};

struct bio_vec {
	struct page *bv_page;
};

struct bvec_iter {
	unsigned int bi_size;
	unsigned int bi_idx;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct bio *bi_next;
	unsigned int bi_opf;
	struct bvec_iter bi_iter;
	struct blkcg_gq *bi_blkg; /* CONFIG_BLK_CGROUP */
	struct bio_vec *bi_io_vec;
};

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	unsigned long queue_flags;
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int rq_flags;
	unsigned int __data_len;
	__u64 __sector;
	struct bio *bio;
	struct bio *biotail;
	__u64 start_time_ns;
	__u64 io_start_time_ns;
};

/* Before "block: remove the ->rq_disk field in struct request" (f3fa33acca9f, v5.17). */
struct request___rq_disk {
	struct gendisk *rq_disk;
};

enum req_flag_bits {
	__REQ_SYNC = 11,
	__REQ_META = 12,
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
	__REQ_RAHEAD = 19,
	__REQ_BACKGROUND = 20,
};

enum pageflags {
	PG_locked = 0, /* the values are relocated */
	PG_writeback = 1,
};

#pragma clang attribute pop

#define REQ_OP_MASK 0xff

/* The same on all kernels from 5.10 on. */
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
#define REQ_OP_FLUSH 2
#define REQ_OP_DISCARD 3
#define REQ_OP_SECURE_ERASE 5
#define REQ_OP_WRITE_ZEROES 9
#define REQ_OP_PASSTHROUGH_FIRST 32 /* SCSI_IN; later kernels begin with DRV_IN, 34 */
#define REQ_OP_PASSTHROUGH_LAST 35 /* DRV_OUT */

#define PAGE_MAPPING_FLAGS 3

/* A driver's own command. */
static __always_inline bool is_passthrough(__u32 op)
{
	return op >= REQ_OP_PASSTHROUGH_FIRST && op <= REQ_OP_PASSTHROUGH_LAST;
}

/* dev_t of the whole disk; 0: the disk is gone. */
static __always_inline __u32 request_device(const struct request *rq)
{
	const struct request___rq_disk *old = (const void *)rq;
	const struct gendisk *disk;

	if (bpf_core_field_exists(old->rq_disk))
		disk = old->rq_disk;
	else
		disk = rq->q->disk;
	return (__u32)disk->major << 20 | (__u32)disk->first_minor;
}

/* Inode of the cgroup's directory; 0: no bio, or a kernel without CONFIG_BLK_CGROUP. */
static __always_inline __u64 bio_cgroup(const struct bio *bio)
{
	if (bpf_core_field_exists(bio->bi_blkg))
		return bio->bi_blkg->blkcg->css.cgroup->kn->id;
	return 0;
}

/* A number of the same cgroup that is nearer, and never used again. */
static __always_inline __u64 bio_owner(const struct bio *bio)
{
	if (bpf_core_field_exists(bio->bi_blkg))
		return bio->bi_blkg->blkcg->css.serial_nr;
	return 0;
}

static __always_inline unsigned long page_flags(const struct page *page)
{
	const struct page___plain_flags *old = (const void *)page;

	if (bpf_core_field_exists(page->flags.f))
		return BPF_CORE_READ(page, flags.f);
	return BPF_CORE_READ(old, flags);
}

/*
 * Whether the page is in the file's cache and read or written as such: while it is, a page that
 * is read into is locked, one that is written back is marked. The page of a mapped file or of
 * shared memory may also be the buffer of somebody's direct I/O, which says nothing of the file.
 */
static __always_inline bool is_cache_io(const struct page *page, bool is_read)
{
	unsigned long flags = page_flags(page);

	if (is_read)
		return flags >> bpf_core_enum_value(enum pageflags, PG_locked) & 1;
	return flags >> bpf_core_enum_value(enum pageflags, PG_writeback) & 1;
}

/*
 * A tail page tells where its folio begins: by a pointer, from v7.0 on by a mask of the address
 * where that is enough. The lowest bit marks either. A mask has ones above the largest folio;
 * no page's struct lies that high.
 */
static __always_inline const struct page *folio_start(const struct page *page)
{
	const struct page___compound_head *old = (const void *)page;
	unsigned long info;

	if (bpf_core_field_exists(old->compound_head))
		info = BPF_CORE_READ(old, compound_head);
	else
		info = BPF_CORE_READ(page, compound_info);
	if (!(info & 1))
		return page;
	if (~info < 1 << 28)
		return (const void *)((unsigned long)page & info);
	return (const void *)(info - 1);
}

/* The inode whose page cache the bio begins with; NULL: direct I/O, swap. */
static __always_inline const struct inode *bio_owner_inode(const struct bio *bio)
{
	const struct bio_vec *vec = BPF_CORE_READ(bio, bi_io_vec);
	const struct page *page;
	unsigned long mapping;

	if (!vec)
		return NULL;
	vec += BPF_CORE_READ(bio, bi_iter.bi_idx);
	page = folio_start(BPF_CORE_READ(vec, bv_page));
	mapping = (unsigned long)BPF_CORE_READ(page, mapping);
	if (!mapping || mapping & PAGE_MAPPING_FLAGS) /* anonymous */
		return NULL;
	return BPF_CORE_READ((struct address_space *)mapping, host);
}

/*
 * A completion's status: an errno; since v5.16 blk_status_t, of which all kernels number those up
 * to BLK_STS_IOERR alike. The errnos of block/blk-core.c, a byte each from the lowest up.
 */
#define STATUS_ERRNOS 0x3d3479431c6e5f00ULL /* 1 to 7 */
#define STATUS_ERRNOS_ABOVE 0x050c54ULL /* 8 to 10 */
#define STATUS_LAST 10

static __always_inline __s32 status_errno(int status)
{
	if (status <= 0)
		return status;
	if (status > STATUS_LAST)
		return -EIO;
	if (status < 8)
		return -(__s32)(STATUS_ERRNOS >> status * 8 & 0xff);
	return -(__s32)(STATUS_ERRNOS_ABOVE >> (status - 8) * 8 & 0xff);
}

#endif
