#include "codec/key_probe.h"

#include "check.h"
#include "codec/term.h"

#define WEIGHT 10u
#define PLENTY 1000000000u

static uint64_t
steps_of(bp_probe_kind_t kind, int64_t first, int64_t stride, int keys)
{
    bp_key_probe_t p;
    uint64_t steps = 0;
    bp_key_probe_init(&p, kind);
    for (int i = 0; i < keys; i++) {
        int64_t hash = first + stride * i;
        CHECK_EQUAL(bp_key_probe_add(&p, hash, WEIGHT, PLENTY, &steps), BP_TERM_OK);
    }
    CHECK_EQUAL(p.keys, keys);
    bp_key_probe_clear(&p);
    return steps;
}

static void
keys_in_sequence_take_about_three_steps(void)
{
    for (int kind = BP_PROBE_DICT; kind <= BP_PROBE_SET; kind++) {
        uint64_t steps = steps_of((bp_probe_kind_t)kind, 0, 1, 10000);
        CHECK(steps >= 10000 && steps < 40000);
    }
}

static void
keys_of_one_hash_weigh_on_every_later_one(void)
{
    for (int kind = BP_PROBE_DICT; kind <= BP_PROBE_SET; kind++) {
        uint64_t few = steps_of((bp_probe_kind_t)kind, 0, 0, 20);
        uint64_t many = steps_of((bp_probe_kind_t)kind, 0, 0, 200);
        CHECK(few >= 20 * 19 / 2 * WEIGHT);
        CHECK(many >= 200 * 199 / 2 * WEIGHT);
    }
}

static void
keys_that_differ_in_high_bits_only_stay_cheap(void)
{
    for (int kind = BP_PROBE_DICT; kind <= BP_PROBE_SET; kind++) {
        CHECK(steps_of((bp_probe_kind_t)kind, 0, (int64_t)1 << 40, 5000) < 5000 * 40);
    }
}

static void
a_walk_ends_at_the_limit(void)
{
    bp_key_probe_t p;
    uint64_t steps = 0;
    int status = BP_TERM_OK;
    int added = 0;
    bp_key_probe_init(&p, BP_PROBE_DICT);
    while (status == BP_TERM_OK) {
        status = bp_key_probe_add(&p, 42, WEIGHT, 1000, &steps);
        added += status == BP_TERM_OK;
    }
    CHECK_EQUAL(status, BP_E_TERM_COLLISION);
    CHECK(added >= 10 && added <= 15); /* 10 + 20 + ... + 130 = 910 */
    CHECK(steps > 1000 && steps <= 1000 + WEIGHT + 1);
    bp_key_probe_clear(&p);
    bp_key_probe_clear(&p);
}

static void
secret_keys_cost_nothing_until_another_comes(void)
{
    bp_key_probe_t p;
    uint64_t steps = 0;
    bp_key_probe_init(&p, BP_PROBE_SET);
    CHECK(!bp_key_probe_is_late(&p));
    for (int i = 0; i < 1000; i++) {
        bp_key_probe_add_secret(&p);
    }
    CHECK(bp_key_probe_is_late(&p));
    CHECK(p.hashes == NULL && p.slots == NULL && steps == 0);
    CHECK_EQUAL(bp_key_probe_add(&p, 5, WEIGHT, PLENTY, &steps), BP_TERM_OK);
    CHECK(!bp_key_probe_is_late(&p));
    CHECK_EQUAL(p.keys, 1001);
    CHECK_EQUAL(p.secret, 0);
    CHECK(steps >= 1 && steps < 100);
    bp_key_probe_clear(&p);
}

static void
a_dict_and_a_set_grow_as_in_cpython(void)
{
    /* Keys after which the table is larger, from sys.getsizeof of CPython 3.12 and 3.13. */
    static const size_t dict_grows[] = {6, 11, 22, 43, 86, 171, 342, 683};
    static const size_t set_grows[] = {5, 19, 77, 307, 1229};
    bp_key_probe_t dict;
    bp_key_probe_t set;
    uint64_t steps = 0;
    size_t dict_grown = 0;
    size_t set_grown = 0;
    bp_key_probe_init(&dict, BP_PROBE_DICT);
    bp_key_probe_init(&set, BP_PROBE_SET);
    for (size_t n = 1; n <= 1229; n++) {
        size_t dict_slots = dict.slots_count;
        size_t set_slots = set.slots_count;
        CHECK_EQUAL(bp_key_probe_add(&dict, (int64_t)n, 1, PLENTY, &steps), BP_TERM_OK);
        CHECK_EQUAL(bp_key_probe_add(&set, (int64_t)n, 1, PLENTY, &steps), BP_TERM_OK);
        if (n > 1 && dict.slots_count > dict_slots) {
            CHECK(dict_grown < 8 && dict_grows[dict_grown] == n);
            dict_grown++;
        }
        if (n > 1 && set.slots_count > set_slots) {
            CHECK(set_grown < 5 && set_grows[set_grown] == n);
            set_grown++;
        }
    }
    CHECK_EQUAL(dict_grown, 8);
    CHECK_EQUAL(set_grown, 5);
    bp_key_probe_clear(&dict);
    bp_key_probe_clear(&set);
}

int
main(void)
{
    RUN(keys_in_sequence_take_about_three_steps);
    RUN(keys_of_one_hash_weigh_on_every_later_one);
    RUN(keys_that_differ_in_high_bits_only_stay_cheap);
    RUN(a_walk_ends_at_the_limit);
    RUN(secret_keys_cost_nothing_until_another_comes);
    RUN(a_dict_and_a_set_grow_as_in_cpython);
    return 0;
}
