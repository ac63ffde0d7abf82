/*
 * How many steps a hash table of CPython takes to hold some keys, without the keys.
 *
 * The hashes of int, float, tuple and frozenset are no secret, so a peer can choose keys
 * that share one hash, or that follow one another's path through the table, and make the
 * insertion of n keys cost n squared. The probe walks the path that CPython would walk, on
 * the hashes alone, and counts: one step for each place looked at (a set's run of neighbours is
 * one place), and for each key of equal hash met, which CPython would have to compare, the
 * weight of the new key.
 *
 * The paths are those of CPython 3.12 to 3.14 (Objects/dictobject.c, Objects/setobject.c).
 * Where another version walks differently the count is off, and nothing worse.
 */
#ifndef BP_CODEC_KEY_PROBE_H
#define BP_CODEC_KEY_PROBE_H

#include <stddef.h>
#include <stdint.h>

typedef enum { BP_PROBE_DICT, BP_PROBE_SET } bp_probe_kind_t;

typedef struct {
    int64_t *hashes; /* of the keys, in the order they came; owned */
    uint32_t *slots; /* index into hashes plus one, 0 when free; owned */
    size_t keys;
    size_t keys_room;
    size_t secret;      /* keys of secret hash that have no place yet */
    size_t slots_count; /* power of two, or 0 before the first key */
    bp_probe_kind_t kind;
} bp_key_probe_t;

/*
 * bp_key_probe_init - make *p the probe of an empty table; end with bp_key_probe_clear.
 *
 * Owns      nothing yet: memory follows the keys added, at most 40 bytes for each.
 */
void bp_key_probe_init(bp_key_probe_t *p, bp_probe_kind_t kind);

/*
 * bp_key_probe_add_secret - add a key whose hash no peer can foresee.
 *
 * Any well-spread hash stands for its own, so it is only counted here, and takes its place
 * when a key is added that can be foreseen. A table of secret keys alone costs nothing.
 *
 * Requires  p initialised.
 */
static inline void
bp_key_probe_add_secret(bp_key_probe_t *p)
{
    p->secret++;
}

/*
 * bp_key_probe_is_late - whether secret keys came first, and none that could be foreseen.
 */
static inline int
bp_key_probe_is_late(const bp_key_probe_t *p)
{
    return p->keys == 0 && p->secret > 0;
}

/*
 * bp_key_probe_add - add the next key of a table, one whose hash a peer could choose.
 *
 * Requires  p initialised; hash is not -1, which CPython never returns.
 * Ensures   BP_TERM_OK: *steps grew by the steps of this key. The walk ends early, and the
 *           key is not added, as soon as *steps exceeds steps_max.
 * Returns   BP_TERM_OK, BP_E_TERM_COLLISION (*steps > steps_max; p is of no further use) or
 *           BP_E_TERM_ALLOC (the same).
 * Owns      what p owns. Safe without the GIL.
 */
int bp_key_probe_add(bp_key_probe_t *p, int64_t hash, uint64_t weight, uint64_t steps_max,
                     uint64_t *steps);

/*
 * bp_key_probe_clear - release what p owns. Idempotent; p may be initialised again.
 */
void bp_key_probe_clear(bp_key_probe_t *p);

#endif
