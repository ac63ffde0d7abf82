/*
 * picoquic_symbols.h against picoquic's own headers: with our names for its types made
 * aliases of the real ones, each function must have the type we declare for it.
 *
 * Where it does not, the difference is listed with the reason why the call is the same.
 */
#include <openssl/x509.h>
#include <picoquic.h>
#include <picoquic_internal.h>
#include <picosocks.h>
#include <picotls.h>
#include <picotls/openssl.h>
#include <stdbool.h>
#include <string.h>
#include <tls_api.h>

#include "check.h"

#define BP_QUIC_PICOQUIC_ABI_H /* instead of it: */
typedef picoquic_quic_t bp_pq_quic_t;
typedef picoquic_cnx_t bp_pq_cnx_t;
typedef ptls_t bp_pq_tls_t;
typedef picoquic_connection_id_t bp_pq_cid_t;
typedef ptls_iovec_t bp_pq_iovec_t;
typedef picoquic_path_quality_t bp_pq_quality_t;
typedef picoquic_tp_t bp_pq_tp_t;
typedef ptls_verify_certificate_t bp_pq_verify_t;
typedef ptls_openssl_verify_certificate_t bp_pq_openssl_verify_t;
typedef picoquic_stream_data_cb_fn bp_pq_callback_fn;
typedef picoquic_connection_id_cb_fn bp_pq_cid_fn;
#include "quic/picoquic_symbols.h"

typedef struct {
    const char *name;
    bool same;
} call_t;

#define COMPARE(result, name, parameters)                                                      \
    {#name, __builtin_types_compatible_p(__typeof__(&name), result(*) parameters)},

static const call_t CALLS[] = {BP_PICOQUIC_SYMBOLS(COMPARE)};

static const char *const DIFFERENT[] = {
    /* An enum there, an int here: passed and returned alike, and no value is negative. */
    "picoquic_set_default_spinbit_policy",
    "picoquic_get_cnx_state",
    "picoquic_queue_misc_frame",
    /* A pointer to a type of its own there, to void here. */
    "picoquic_get_congestion_algorithm",
    "ptls_openssl_init_verify_certificate",
    "X509_STORE_new",
    "X509_STORE_free",
};

_Static_assert(sizeof(picoquic_spinbit_version_enum) == sizeof(int), "spin bit policy");
_Static_assert(sizeof(picoquic_state_enum) == sizeof(int), "connection state");
_Static_assert(sizeof(picoquic_packet_context_enum) == sizeof(int), "packet context");

static bool
is_listed(const char *name)
{
    for (size_t i = 0; i < sizeof(DIFFERENT) / sizeof(DIFFERENT[0]); i++) {
        if (strcmp(DIFFERENT[i], name) == 0) {
            return true;
        }
    }
    return false;
}

int
main(void)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof(CALLS) / sizeof(CALLS[0]); i++) {
        if (CALLS[i].same == is_listed(CALLS[i].name)) {
            fprintf(stderr, "%s: %s\n", CALLS[i].name,
                    CALLS[i].same ? "listed as different, and is not" : "has another type");
            wrong++;
        }
    }
    CHECK_EQUAL(wrong, 0);
    return 0;
}
