#include "codec/key_probe.h"

#include "codec/term.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MIN 8u
#define PERTURB_SHIFT 5u
#define SET_LINEAR_PROBES 9u
#define SET_GROWS_SLOWER_FROM 50000u

/* A walk through the table: the slots that CPython looks at, in its order. */
typedef struct {
    uint64_t perturb;
    size_t base;   /* where the current run of neighbours starts */
    size_t at;     /* the slot to look at */
    size_t run;    /* neighbours of base still to come */
    size_t linear; /* length of a run where it fits before the end of the table */
    size_t mask;
} bp_walk_t;

static void
walk_run(bp_walk_t *w, size_t base)
{
    w->base = base;
    w->at = base;
    w->run = base + w->linear <= w->mask ? w->linear : 0;
}

static bp_walk_t
walk_start(const bp_key_probe_t *p, int64_t hash)
{
    bp_walk_t w = {
        .perturb = (uint64_t)hash,
        .linear = p->kind == BP_PROBE_SET ? SET_LINEAR_PROBES : 0,
        .mask = p->slots_count - 1,
    };
    walk_run(&w, (size_t)hash & w.mask);
    return w;
}

static void
walk_next(bp_walk_t *w)
{
    if (w->run > 0) {
        w->run--;
        w->at++;
        return;
    }
    w->perturb >>= PERTURB_SHIFT;
    walk_run(w, (w->base * 5 + 1 + (size_t)w->perturb) & w->mask);
}

/* Put the key numbered index, already in hashes, into the first free slot of its path. */
static int
place(bp_key_probe_t *p, size_t index, uint64_t weight, uint64_t steps_max, uint64_t *steps)
{
    int64_t hash = p->hashes[index];
    bp_walk_t w = walk_start(p, hash);
    uint64_t taken = 1;
    while (p->slots[w.at] != 0 && *steps + taken <= steps_max) {
        if (p->hashes[p->slots[w.at] - 1] == hash) {
            taken += weight;
        }
        walk_next(&w);
        taken += w.at == w.base;
    }
    *steps += taken;
    if (*steps > steps_max) {
        return BP_E_TERM_COLLISION;
    }
    p->slots[w.at] = (uint32_t)index + 1;
    return BP_TERM_OK;
}

static size_t
power_of_two(size_t least)
{
    size_t n = SLOTS_MIN;
    while (n < least) {
        n <<= 1;
    }
    return n;
}

/* Move every key to a table of slots_count slots; a move compares no keys. */
static int
resize(bp_key_probe_t *p, size_t slots_count, uint64_t steps_max, uint64_t *steps)
{
    uint32_t *old = p->slots;
    size_t old_count = p->slots_count;
    p->slots = calloc(slots_count, sizeof *p->slots);
    if (p->slots == NULL) {
        p->slots = old;
        return BP_E_TERM_ALLOC;
    }
    p->slots_count = slots_count;
    int status = BP_TERM_OK;
    if (p->kind == BP_PROBE_DICT) {
        for (size_t i = 0; i < p->keys && status == BP_TERM_OK; i++) {
            status = place(p, i, 0, steps_max, steps);
        }
    } else {
        for (size_t i = 0; i < old_count && status == BP_TERM_OK; i++) {
            if (old[i] != 0) {
                status = place(p, old[i] - 1, 0, steps_max, steps);
            }
        }
    }
    free(old);
    return status;
}

/* A dict grows before the key that no longer fits, a set after the one that filled it. */
static int
grow_before(bp_key_probe_t *p, uint64_t steps_max, uint64_t *steps)
{
    if (p->slots_count == 0) {
        return resize(p, SLOTS_MIN, steps_max, steps);
    }
    if (p->kind == BP_PROBE_DICT && p->keys >= p->slots_count * 2 / 3) {
        return resize(p, power_of_two(p->keys * 3), steps_max, steps);
    }
    return BP_TERM_OK;
}

static int
grow_after(bp_key_probe_t *p, uint64_t steps_max, uint64_t *steps)
{
    if (p->kind != BP_PROBE_SET || p->keys * 5 < (p->slots_count - 1) * 3) {
        return BP_TERM_OK;
    }
    size_t factor = p->keys > SET_GROWS_SLOWER_FROM ? 2 : 4;
    return resize(p, power_of_two(p->keys * factor + 1), steps_max, steps);
}

static int
append(bp_key_probe_t *p, int64_t hash)
{
    if (p->keys == UINT32_MAX) {
        return BP_E_TERM_ALLOC;
    }
    if (p->keys == p->keys_room) {
        size_t room = p->keys_room == 0 ? SLOTS_MIN : p->keys_room * 2;
        int64_t *hashes = realloc(p->hashes, room * sizeof *hashes);
        if (hashes == NULL) {
            return BP_E_TERM_ALLOC;
        }
        p->hashes = hashes;
        p->keys_room = room;
    }
    p->hashes[p->keys] = hash;
    return BP_TERM_OK;
}

void
bp_key_probe_init(bp_key_probe_t *p, bp_probe_kind_t kind)
{
    assert(p != NULL);

    memset(p, 0, sizeof *p);
    p->kind = kind;
}

static int
add(bp_key_probe_t *p, int64_t hash, uint64_t weight, uint64_t steps_max, uint64_t *steps)
{
    int status = grow_before(p, steps_max, steps);
    if (status == BP_TERM_OK) {
        status = append(p, hash);
    }
    if (status == BP_TERM_OK) {
        status = place(p, p->keys, weight, steps_max, steps);
    }
    if (status == BP_TERM_OK) {
        p->keys++;
        status = grow_after(p, steps_max, steps);
    }
    return status;
}

static int
place_secrets(bp_key_probe_t *p)
{
    uint64_t steps = 0;
    int status = BP_TERM_OK;
    for (; p->secret > 0 && status == BP_TERM_OK; p->secret--) {
        uint64_t hash = (p->keys + 1) * 0x9e3779b97f4a7c15u;
        hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
        status = add(p, (int64_t)(hash >> 1), 0, UINT64_MAX, &steps);
    }
    return status;
}

int
bp_key_probe_add(bp_key_probe_t *p, int64_t hash, uint64_t weight, uint64_t steps_max,
                 uint64_t *steps)
{
    assert(p != NULL);
    assert(steps != NULL);
    assert(hash != -1);

    int status = place_secrets(p);
    return status == BP_TERM_OK ? add(p, hash, weight, steps_max, steps) : status;
}

void
bp_key_probe_clear(bp_key_probe_t *p)
{
    assert(p != NULL);

    free(p->hashes);
    free(p->slots);
    bp_key_probe_init(p, p->kind);
}
