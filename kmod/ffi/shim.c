// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bvec.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include "shim.h"

const unsigned int rwsnap_gfp_noio = (__force unsigned int)GFP_NOIO;
const unsigned int rwsnap_gfp_nowait = (__force unsigned int)(GFP_NOWAIT | __GFP_NOWARN);
const unsigned int rwsnap_open_own = (__force unsigned int)(BLK_OPEN_READ | BLK_OPEN_WRITE);
const unsigned int rwsnap_open_read = (__force unsigned int)BLK_OPEN_READ;
const unsigned int rwsnap_open_write = (__force unsigned int)BLK_OPEN_WRITE;
const unsigned int rwsnap_features =
	(__force unsigned int)(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA | BLK_FEAT_IO_STAT);
const unsigned int rwsnap_feature_nowait = (__force unsigned int)BLK_FEAT_NOWAIT;
const unsigned int rwsnap_req_op_mask = (__force unsigned int)REQ_OP_MASK;

unsigned int rwsnap_noio_save(void)
{
	return memalloc_noio_save();
}

void rwsnap_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

void rwsnap_cond_resched(void)
{
	cond_resched();
}

void rwsnap_bvec(const struct bio *bio, const struct bvec_iter *iter, struct bio_vec *bvec)
{
	*bvec = bio_iter_iovec(bio, *iter);
}

void rwsnap_advance(const struct bio *bio, struct bvec_iter *iter, unsigned int bytes)
{
	bio_advance_iter(bio, iter, bytes);
}

void rwsnap_zero_bvec(const struct bio_vec *bvec)
{
	memzero_bvec((struct bio_vec *)bvec);
}

struct page *rwsnap_zero_page(void)
{
	return ZERO_PAGE(0);
}

bool rwsnap_bdev_write_cache(struct block_device *bdev)
{
	return bdev_write_cache(bdev);
}

bool rwsnap_bdev_fua(struct block_device *bdev)
{
	return bdev_fua(bdev);
}

u64 rwsnap_bdev_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

unsigned int rwsnap_bdev_block(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

unsigned int rwsnap_bdev_discard_sectors(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}

unsigned int rwsnap_bdev_zero_sectors(struct block_device *bdev)
{
	return bdev_write_zeroes_sectors(bdev);
}

bool rwsnap_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

bool rwsnap_bdev_zoned(struct block_device *bdev)
{
	return bdev_is_zoned(bdev);
}

/* These two do nothing in a kernel without CONFIG_BLOCK_HOLDER_DEPRECATED. */
int rwsnap_link_holder(struct block_device *bdev, struct gendisk *disk)
{
	return bd_link_disk_holder(bdev, disk);
}

void rwsnap_unlink_holder(struct block_device *bdev, struct gendisk *disk)
{
	bd_unlink_disk_holder(bdev, disk);
}

bool rwsnap_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}

void rwsnap_ref_put(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}
