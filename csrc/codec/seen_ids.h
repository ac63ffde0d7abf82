/*
 * Message ids that were seen lately: a ring in order of arrival, and an index into it.
 *
 * All ids live equally long and time does not go back, so the order of arrival is the order
 * of expiry, and the oldest is the one to give up when there are too many. An id costs 24
 * bytes in the ring and 8 in the index of a table that is full.
 *
 * Peers choose ids. The index is by SipHash-1-3 with a key that no peer knows.
 */
#ifndef BP_CODEC_SEEN_IDS_H
#define BP_CODEC_SEEN_IDS_H

#include <stdint.h>

#define BP_SEEN_ID_BYTES 16u
#define BP_SEEN_COUNT_TOP (UINT32_C(1) << 23)
#define BP_E_SEEN_MEMORY (-1)

typedef struct {
    uint64_t id[2];
    int64_t until_ms;
} bp_seen_entry_t;

typedef struct {
    bp_seen_entry_t *ring; /* owned */
    uint32_t *index;       /* tag of 8 bits, place in the ring plus one; 0 when free; owned */
    uint64_t key[2];
    int64_t ttl_ms;
    uint64_t evicted; /* ids given up before their time */
    uint32_t ring_size; /* power of two; the index is twice as long */
    uint32_t head;      /* place of the oldest */
    uint32_t count;
    uint32_t count_max;
} bp_seen_ids_t;

/*
 * bp_seen_init - make *t an empty table; end with bp_seen_clear.
 *
 * Requires  1 <= count_max <= BP_SEEN_COUNT_TOP; ttl_ms >= 1; key drawn at random.
 * Owns      nothing yet: memory follows the ids added.
 */
void bp_seen_init(bp_seen_ids_t *t, uint32_t count_max, int64_t ttl_ms, const uint64_t key[2]);

/*
 * bp_seen_add - remember the id until now_ms + ttl_ms, unless it is known.
 *
 * A known id keeps its time. When the table is full the oldest id is given up.
 * Returns   1 (new), 0 (known), BP_E_SEEN_MEMORY (nothing was added).
 */
int bp_seen_add(bp_seen_ids_t *t, const uint8_t *id, int64_t now_ms);

/* Whether the id was seen, and not longer ago than ttl_ms. */
int bp_seen_has(const bp_seen_ids_t *t, const uint8_t *id, int64_t now_ms);

/*
 * bp_seen_expire - forget at most limit ids whose time is over, and give memory back.
 *
 * Returns   how many were forgotten.
 */
uint32_t bp_seen_expire(bp_seen_ids_t *t, int64_t now_ms, uint32_t limit);

/* Bytes allocated. */
uint64_t bp_seen_bytes(const bp_seen_ids_t *t);

/* Release what t owns and forget all ids. Idempotent; t may be used again. */
void bp_seen_clear(bp_seen_ids_t *t);

#endif
