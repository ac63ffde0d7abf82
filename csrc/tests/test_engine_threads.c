/* Engines are independent: sixteen threads, each with two of its own, from birth to death. */
#include <pthread.h>
#include <stdlib.h>

#include "certificate.h"
#include "check.h"
#include "engine_pair.h"

#define THREADS 16
#define LIVES 4
#define BYTES 100000u

/* Connect, send both ways, end; whatever is wrong ends the program. */
static void
live(uint64_t seed)
{
    pair_t *pair = malloc(sizeof(*pair));
    CHECK(pair != NULL);
    bp_config_t config = pair_config();
    pair_init(pair, seed);
    pair->link.loss = 100;
    pair_add(pair, 0, &config);
    pair_add(pair, 1, &config);
    uint64_t client = pair_connect(pair, 0, 1);
    uint64_t there = pair_send(pair, 0, pair_open(pair, 0, client, 0), BYTES, true)->hash;
    uint64_t back =
        pair_send(pair, 1, pair_open(pair, 1, pair_accepted(pair, 1), 1), BYTES, true)->hash;
    pair_run(pair, 3 * PAIR_SECOND);
    const pair_stream_t *far = pair_stream_by_id(pair, 1, 0);
    const pair_stream_t *near = pair_stream_by_id(pair, 0, 3);
    CHECK(far != NULL && far->received == BYTES && far->fins == 1 && far->hash == there);
    CHECK(near != NULL && near->received == BYTES && near->fins == 1 && near->hash == back);
    pair_free(pair);
    free(pair);
}

static void *
thread(void *context)
{
    for (uint64_t i = 0; i < LIVES; i++) {
        live(*(const uint64_t *)context * LIVES + i);
    }
    return NULL;
}

static void
sixteen_threads_with_engines_of_their_own_do_not_meet(void)
{
    pthread_t threads[THREADS];
    uint64_t numbers[THREADS];
    (void)bp_test_certificate(); /* written once, before anyone reads it */
    for (uint64_t i = 0; i < THREADS; i++) {
        numbers[i] = i + 1;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, thread, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
}

int
main(void)
{
    RUN(sixteen_threads_with_engines_of_their_own_do_not_meet);
    return 0;
}
