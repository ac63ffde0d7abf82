/*
 * The peer's certificate. Any chain is accepted, because identity is proved above
 * (Ed25519); but the library's own verifier still runs, so that CertificateVerify
 * shows the peer holds the key of the certificate we hand on.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define CERTIFICATE_BYTES_MAX 16384u

/* The verifier picotls calls; super comes first so that the engine can be found again. */
typedef struct {
    bp_pq_verify_t super;
    bp_engine_t *engine;
} verifier_t;

static int
accept_any(bp_pq_override_t *self, bp_pq_tls_t *tls, int result, int openssl_result,
           void *certificate, void *chain)
{
    (void)self;
    (void)tls;
    (void)openssl_result;
    (void)chain;
    return certificate != NULL ? 0 : result;
}

static void
keep(bp_engine_t *engine, bp_pq_tls_t *tls, uint8_t *der, size_t size)
{
    bp_pq_cnx_t *cnx = *engine->pq->ptls_get_data_ptr(tls);
    bp_connection_t *connection =
        cnx == NULL ? NULL : engine->pq->picoquic_get_callback_context(cnx);
    if (connection == NULL || connection->magic != BP_MAGIC_CONNECTION) {
        free(der);
        return;
    }
    free(connection->certificate);
    connection->certificate = der;
    connection->certificate_size = size;
}

/* A certificate we cannot hand on ends the handshake: the session would be bound to nothing. */
static int
verify(bp_pq_verify_t *self, bp_pq_tls_t *tls, const char *server_name,
       bp_pq_verify_sign_fn *verify_sign, void **verify_context, bp_pq_iovec_t *certificates,
       size_t count)
{
    bp_engine_t *engine = ((verifier_t *)self)->engine;
    size_t size = count > 0 ? certificates[0].len : 0;
    if (size == 0 || size > CERTIFICATE_BYTES_MAX) {
        return BP_PQ_ALERT_BAD_CERTIFICATE;
    }
    uint8_t *copy = malloc(size);
    if (copy == NULL) {
        return BP_PQ_TLS_NO_MEMORY;
    }
    memcpy(copy, certificates[0].base, size);
    int status = engine->verify.super.cb(&engine->verify.super, tls, server_name, verify_sign,
                                         verify_context, certificates, count);
    if (status != 0) {
        free(copy);
        return status;
    }
    keep(engine, tls, copy, size);
    return 0;
}

static void
release(bp_pq_verify_t *verify_certificate)
{
    bp_engine_t *engine = ((verifier_t *)verify_certificate)->engine;
    engine->pq->ptls_openssl_dispose_verify_certificate(&engine->verify);
    free(verify_certificate);
}

int
bp_certificate_setup(bp_engine_t *engine)
{
    verifier_t *verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL) {
        return BP_E_MEMORY;
    }
    /* An empty store: the system's would cost memory and decide nothing. */
    void *store = engine->pq->X509_STORE_new();
    if (store == NULL ||
        engine->pq->ptls_openssl_init_verify_certificate(&engine->verify, store) != 0) {
        engine->pq->X509_STORE_free(store);
        free(verifier);
        return BP_E_MEMORY;
    }
    engine->pq->X509_STORE_free(store);
    engine->verify_override.cb = accept_any;
    engine->verify.override = &engine->verify_override;
    verifier->super.cb = verify;
    verifier->super.algorithms = engine->verify.super.algorithms;
    verifier->engine = engine;
    engine->pq->picoquic_set_verify_certificate_callback(engine->quic, &verifier->super,
                                                         release);
    return BP_OK;
}
