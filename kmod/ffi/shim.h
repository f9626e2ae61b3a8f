/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What bindgen does not see of C: inline functions, and constants that are macros with casts. No
 * logic is here; kmod/ffi/mod.rs declares all of it for Rust.
 */
#ifndef RWSNAP_SHIM_H
#define RWSNAP_SHIM_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/percpu-refcount.h>

extern const unsigned int rwsnap_gfp_noio;
extern const unsigned int rwsnap_gfp_nowait;
extern const unsigned int rwsnap_open_own;
extern const unsigned int rwsnap_open_read;
extern const unsigned int rwsnap_open_write;
extern const unsigned int rwsnap_features;
extern const unsigned int rwsnap_feature_nowait;
extern const unsigned int rwsnap_req_op_mask;

unsigned int rwsnap_noio_save(void);
void rwsnap_noio_restore(unsigned int flags);
void rwsnap_cond_resched(void);

void rwsnap_bvec(const struct bio *bio, const struct bvec_iter *iter, struct bio_vec *bvec);
void rwsnap_advance(const struct bio *bio, struct bvec_iter *iter, unsigned int bytes);
void rwsnap_zero_bvec(const struct bio_vec *bvec);
struct page *rwsnap_zero_page(void);

bool rwsnap_bdev_write_cache(struct block_device *bdev);
bool rwsnap_bdev_fua(struct block_device *bdev);
u64 rwsnap_bdev_bytes(struct block_device *bdev);
unsigned int rwsnap_bdev_block(struct block_device *bdev);
unsigned int rwsnap_bdev_discard_sectors(struct block_device *bdev);
unsigned int rwsnap_bdev_zero_sectors(struct block_device *bdev);
bool rwsnap_bdev_read_only(struct block_device *bdev);
bool rwsnap_bdev_zoned(struct block_device *bdev);

int rwsnap_link_holder(struct block_device *bdev, struct gendisk *disk);
void rwsnap_unlink_holder(struct block_device *bdev, struct gendisk *disk);

bool rwsnap_ref_tryget_live(struct percpu_ref *ref);
void rwsnap_ref_put(struct percpu_ref *ref);

#endif
