#include "codec/seen_ids.h"

#include <stdlib.h>
#include <string.h>

#define RING_MIN 16u
#define EXPIRED_A_CALL 4u
#define SHRINK_BELOW 8u /* a ring that is filled to less than one part in so many */
#define PLACE_BITS 24u
#define PLACE_MASK ((UINT32_C(1) << PLACE_BITS) - 1)
#define NOWHERE UINT32_MAX

static uint64_t
turned(uint64_t x, unsigned int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = turned(v[1], 13) ^ v[0];
    v[3] = turned(v[3], 16) ^ v[2];
    v[0] = turned(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = turned(v[1], 17) ^ v[2];
    v[3] = turned(v[3], 21) ^ v[0];
    v[2] = turned(v[2], 32);
}

/* SipHash-1-3 of the 16 bytes of an id. */
static uint64_t
hash_of(const bp_seen_ids_t *t, const uint64_t id[2])
{
    uint64_t v[4] = {
        t->key[0] ^ UINT64_C(0x736f6d6570736575),
        t->key[1] ^ UINT64_C(0x646f72616e646f6d),
        t->key[0] ^ UINT64_C(0x6c7967656e657261),
        t->key[1] ^ UINT64_C(0x7465646279746573),
    };
    const uint64_t words[3] = {id[0], id[1], (uint64_t)BP_SEEN_ID_BYTES << 56};
    for (int i = 0; i < 3; i++) {
        v[3] ^= words[i];
        sip_round(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint32_t
index_mask(const bp_seen_ids_t *t)
{
    return t->ring_size * 2 - 1;
}

static uint32_t
tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 56) << PLACE_BITS;
}

/* The slot of the index that leads to the id, or NOWHERE. */
static uint32_t
find(const bp_seen_ids_t *t, const uint64_t id[2], uint64_t hash)
{
    if (t->count == 0) {
        return NOWHERE;
    }
    uint32_t mask = index_mask(t);
    uint32_t tag = tag_of(hash);
    for (uint32_t slot = (uint32_t)hash & mask; t->index[slot] != 0; slot = (slot + 1) & mask) {
        uint32_t found = t->index[slot];
        if ((found & ~PLACE_MASK) != tag) {
            continue;
        }
        const bp_seen_entry_t *entry = &t->ring[(found & PLACE_MASK) - 1];
        if (entry->id[0] == id[0] && entry->id[1] == id[1]) {
            return slot;
        }
    }
    return NOWHERE;
}

static void
point_to(bp_seen_ids_t *t, uint32_t place, uint64_t hash)
{
    uint32_t mask = index_mask(t);
    uint32_t slot = (uint32_t)hash & mask;
    while (t->index[slot] != 0) {
        slot = (slot + 1) & mask;
    }
    t->index[slot] = tag_of(hash) | (place + 1);
}

/* Free a slot, and move up what stands behind it, so that no walk ends too early. */
static void
free_slot(bp_seen_ids_t *t, uint32_t slot)
{
    uint32_t mask = index_mask(t);
    for (uint32_t next = (slot + 1) & mask; t->index[next] != 0; next = (next + 1) & mask) {
        const bp_seen_entry_t *entry = &t->ring[(t->index[next] & PLACE_MASK) - 1];
        uint32_t home = (uint32_t)hash_of(t, entry->id) & mask;
        if (((next - home) & mask) >= ((next - slot) & mask)) {
            t->index[slot] = t->index[next];
            slot = next;
        }
    }
    t->index[slot] = 0;
}

static void
drop_oldest(bp_seen_ids_t *t)
{
    const bp_seen_entry_t *oldest = &t->ring[t->head];
    free_slot(t, find(t, oldest->id, hash_of(t, oldest->id)));
    t->head = (t->head + 1) & (t->ring_size - 1);
    t->count--;
}

static int
resize(bp_seen_ids_t *t, uint32_t ring_size)
{
    bp_seen_entry_t *ring = malloc(ring_size * sizeof(*ring));
    uint32_t *index = calloc((size_t)ring_size * 2, sizeof(*index));
    if (ring == NULL || index == NULL) {
        free(ring);
        free(index);
        return BP_E_SEEN_MEMORY;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        ring[i] = t->ring[(t->head + i) & (t->ring_size - 1)];
    }
    free(t->ring);
    free(t->index);
    t->ring = ring;
    t->index = index;
    t->ring_size = ring_size;
    t->head = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        point_to(t, i, hash_of(t, ring[i].id));
    }
    return 0;
}

void
bp_seen_init(bp_seen_ids_t *t, uint32_t count_max, int64_t ttl_ms, const uint64_t key[2])
{
    *t = (bp_seen_ids_t){.key = {key[0], key[1]}, .ttl_ms = ttl_ms, .count_max = count_max};
}

int
bp_seen_add(bp_seen_ids_t *t, const uint8_t *bytes, int64_t now_ms)
{
    uint64_t id[2];
    memcpy(id, bytes, sizeof(id));
    (void)bp_seen_expire(t, now_ms, EXPIRED_A_CALL);
    uint64_t hash = hash_of(t, id);
    uint32_t slot = find(t, id, hash);
    if (slot != NOWHERE) {
        if (t->ring[(t->index[slot] & PLACE_MASK) - 1].until_ms > now_ms) {
            return 0;
        }
        (void)bp_seen_expire(t, now_ms, UINT32_MAX);
    }
    if (t->count == t->count_max) {
        drop_oldest(t);
        t->evicted++;
    }
    if (t->count == t->ring_size) {
        int status = resize(t, t->ring_size == 0 ? RING_MIN : t->ring_size * 2);
        if (status != 0) {
            return status;
        }
    }
    uint32_t place = (t->head + t->count) & (t->ring_size - 1);
    t->ring[place] = (bp_seen_entry_t){{id[0], id[1]}, now_ms + t->ttl_ms};
    t->count++;
    point_to(t, place, hash);
    return 1;
}

int
bp_seen_has(const bp_seen_ids_t *t, const uint8_t *bytes, int64_t now_ms)
{
    uint64_t id[2];
    memcpy(id, bytes, sizeof(id));
    uint32_t slot = find(t, id, hash_of(t, id));
    return slot != NOWHERE && t->ring[(t->index[slot] & PLACE_MASK) - 1].until_ms > now_ms;
}

uint32_t
bp_seen_expire(bp_seen_ids_t *t, int64_t now_ms, uint32_t limit)
{
    uint32_t dropped = 0;
    while (dropped < limit && t->count > 0 && t->ring[t->head].until_ms <= now_ms) {
        drop_oldest(t);
        dropped++;
    }
    uint32_t enough = t->ring_size;
    while (enough > RING_MIN && t->count < enough / SHRINK_BELOW) {
        enough /= 2;
    }
    if (enough < t->ring_size) {
        (void)resize(t, enough); /* Without memory for it, it stays as it is. */
    }
    return dropped;
}

uint64_t
bp_seen_bytes(const bp_seen_ids_t *t)
{
    return (uint64_t)t->ring_size * (sizeof(*t->ring) + 2 * sizeof(*t->index));
}

void
bp_seen_clear(bp_seen_ids_t *t)
{
    free(t->ring);
    free(t->index);
    t->ring = NULL;
    t->index = NULL;
    t->ring_size = 0;
    t->head = 0;
    t->count = 0;
}
