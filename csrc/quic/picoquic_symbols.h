/*
 * Every picoquic symbol the engine calls, once: X(result, name, parameters).
 * The shared-object binding resolves them by name, the static one by linking.
 */
#ifndef BP_QUIC_PICOQUIC_SYMBOLS_H
#define BP_QUIC_PICOQUIC_SYMBOLS_H

#include "picoquic_abi.h"

/* clang-format off */
#define BP_PICOQUIC_SYMBOLS(X) \
    X(bp_pq_quic_t *, picoquic_create, (uint32_t connections_max, const char *certificate, const char *key, const char *roots, const char *alpn, bp_pq_callback_fn callback, void *context, bp_pq_cid_fn cid, void *cid_context, uint8_t *reset_seed, uint64_t now_us, uint64_t *simulated_time, const char *ticket_file, const uint8_t *ticket_key, size_t ticket_key_size)) \
    X(void, picoquic_free, (bp_pq_quic_t *quic)) \
    X(void, picoquic_register_all_congestion_control_algorithms, (void)) \
    X(const void *, picoquic_get_congestion_algorithm, (const char *name)) \
    X(void, picoquic_sort_key_exchange_algorithms, (uint16_t *groups, size_t count)) \
    X(void, picoquic_set_default_congestion_algorithm_by_name, (bp_pq_quic_t *quic, const char *name)) \
    X(void, picoquic_disable_port_blocking, (bp_pq_quic_t *quic, int disabled)) \
    X(int, picoquic_set_default_tp_value, (bp_pq_quic_t *quic, uint64_t type, uint64_t value)) \
    X(void, picoquic_set_max_data_control, (bp_pq_quic_t *quic, uint64_t bytes)) \
    X(void, picoquic_set_default_idle_timeout, (bp_pq_quic_t *quic, uint64_t ms)) \
    X(void, picoquic_set_default_handshake_timeout, (bp_pq_quic_t *quic, uint64_t us)) \
    X(void, picoquic_set_default_padding, (bp_pq_quic_t *quic, uint32_t multiple, uint32_t bytes_min)) \
    X(void, picoquic_set_cookie_mode, (bp_pq_quic_t *quic, int mode)) \
    X(void, picoquic_set_max_half_open_retry_threshold, (bp_pq_quic_t *quic, uint32_t count)) \
    X(void, picoquic_set_default_stateless_reset_min_interval, (bp_pq_quic_t *quic, uint64_t us)) \
    X(void, picoquic_enable_path_callbacks_default, (bp_pq_quic_t *quic, int enabled)) \
    X(void, picoquic_set_use_exporter, (bp_pq_quic_t *quic, int enabled)) \
    X(void, picoquic_set_mtu_max, (bp_pq_quic_t *quic, uint32_t bytes)) \
    X(void, picoquic_set_default_multipath_option, (bp_pq_quic_t *quic, int option)) \
    X(void, picoquic_set_cwin_max, (bp_pq_quic_t *quic, uint64_t bytes)) \
    X(void, picoquic_set_random_initial, (bp_pq_quic_t *quic, int enabled)) \
    X(void, picoquic_set_optimistic_ack_policy, (bp_pq_quic_t *quic, uint32_t period)) \
    X(int, picoquic_set_default_spinbit_policy, (bp_pq_quic_t *quic, int policy)) \
    X(void, picoquic_public_random_seed_64, (uint64_t seed, int reset)) \
    X(void, picoquic_enable_sslkeylog, (bp_pq_quic_t *quic, int enabled)) \
    X(void, picoquic_set_key_log_file_from_env, (bp_pq_quic_t *quic)) \
    X(uint32_t, picoquic_current_number_connections, (bp_pq_quic_t *quic)) \
    X(bp_pq_cnx_t *, picoquic_create_cnx, (bp_pq_quic_t *quic, bp_pq_cid_t initial, bp_pq_cid_t remote, const struct sockaddr *peer, uint64_t now_us, uint32_t version, const char *sni, const char *alpn, char client)) \
    X(int, picoquic_set_local_addr, (bp_pq_cnx_t *cnx, struct sockaddr *local)) \
    X(int, picoquic_start_client_cnx, (bp_pq_cnx_t *cnx)) \
    X(void, picoquic_delete_cnx, (bp_pq_cnx_t *cnx)) \
    X(int, picoquic_close_ex, (bp_pq_cnx_t *cnx, uint64_t code, const char *reason)) \
    X(void, picoquic_get_close_reasons, (bp_pq_cnx_t *cnx, uint64_t *local, uint64_t *remote, uint64_t *local_app, uint64_t *remote_app)) \
    X(int, picoquic_get_cnx_state, (bp_pq_cnx_t *cnx)) \
    X(void, picoquic_set_callback, (bp_pq_cnx_t *cnx, bp_pq_callback_fn callback, void *context)) \
    X(void *, picoquic_get_callback_context, (bp_pq_cnx_t *cnx)) \
    X(void, picoquic_enable_keep_alive, (bp_pq_cnx_t *cnx, uint64_t interval_us)) \
    X(int, picoquic_queue_misc_frame, (bp_pq_cnx_t *cnx, const uint8_t *bytes, size_t length, int is_pure_ack, int packet_context)) \
    X(bp_pq_cid_t, picoquic_get_remote_cnxid, (bp_pq_cnx_t *cnx)) \
    X(bp_pq_cid_t, picoquic_get_initial_cnxid, (bp_pq_cnx_t *cnx)) \
    X(int, picoquic_refresh_path_connection_id, (bp_pq_cnx_t *cnx, uint64_t path_id)) \
    X(int, picoquic_tls_is_psk_handshake, (bp_pq_cnx_t *cnx)) \
    X(int, picoquic_export_secret, (bp_pq_cnx_t *cnx, const char *label, uint8_t *out, size_t size)) \
    X(const bp_pq_tp_t *, picoquic_get_transport_parameters, (bp_pq_cnx_t *cnx, int local)) \
    X(int, picoquic_incoming_packet_ex, (bp_pq_quic_t *quic, uint8_t *bytes, size_t length, struct sockaddr *from, struct sockaddr *to, int interface, unsigned char ecn, bp_pq_cnx_t **first, uint64_t now_us)) \
    X(int, picoquic_prepare_next_packet_ex, (bp_pq_quic_t *quic, uint64_t now_us, uint8_t *buffer, size_t capacity, size_t *length, struct sockaddr_storage *to, struct sockaddr_storage *from, int *interface, bp_pq_cid_t *log_cid, bp_pq_cnx_t **last, size_t *segment)) \
    X(int64_t, picoquic_get_next_wake_delay, (bp_pq_quic_t *quic, uint64_t now_us, int64_t max_us)) \
    X(void, picoquic_set_app_wake_time, (bp_pq_cnx_t *cnx, uint64_t time_us)) \
    X(uint64_t, picoquic_get_next_local_stream_id, (bp_pq_cnx_t *cnx, int uni)) \
    X(int, picoquic_set_app_stream_ctx, (bp_pq_cnx_t *cnx, uint64_t stream_id, void *context)) \
    X(int, picoquic_mark_active_stream, (bp_pq_cnx_t *cnx, uint64_t stream_id, int active, void *context)) \
    X(uint8_t *, picoquic_provide_stream_data_buffer, (void *context, size_t length, int fin, int still_active)) \
    X(int, picoquic_reset_stream, (bp_pq_cnx_t *cnx, uint64_t stream_id, uint64_t code)) \
    X(int, picoquic_reset_stream_at, (bp_pq_cnx_t *cnx, uint64_t stream_id, uint64_t code, uint64_t reliable_bytes)) \
    X(int, picoquic_stop_sending, (bp_pq_cnx_t *cnx, uint64_t stream_id, uint64_t code)) \
    X(uint64_t, picoquic_get_remote_stream_error, (bp_pq_cnx_t *cnx, uint64_t stream_id)) \
    X(uint64_t, picoquic_get_remote_stop_sending_error, (bp_pq_cnx_t *cnx, uint64_t stream_id)) \
    X(int, picoquic_set_stream_priority, (bp_pq_cnx_t *cnx, uint64_t stream_id, uint8_t priority)) \
    X(int, picoquic_set_app_flow_control, (bp_pq_cnx_t *cnx, uint64_t stream_id, int enabled)) \
    X(int, picoquic_open_flow_control, (bp_pq_cnx_t *cnx, uint64_t stream_id, uint64_t bytes)) \
    X(void, picoquic_get_default_path_quality, (bp_pq_cnx_t *cnx, bp_pq_quality_t *quality)) \
    X(int, picoquic_get_path_quality, (bp_pq_cnx_t *cnx, uint64_t path_id, bp_pq_quality_t *quality)) \
    X(int, picoquic_get_path_addr, (bp_pq_cnx_t *cnx, uint64_t path_id, int which, struct sockaddr_storage *address)) \
    X(int, picoquic_probe_new_path_ex, (bp_pq_cnx_t *cnx, const struct sockaddr *peer, const struct sockaddr *local, int interface, uint64_t now_us, int to_preferred)) \
    X(int, picoquic_abandon_path, (bp_pq_cnx_t *cnx, uint64_t path_id, uint64_t reason, uint64_t now_us)) \
    X(void, picoquic_set_verify_certificate_callback, (bp_pq_quic_t *quic, bp_pq_verify_t *verify, void (*release)(bp_pq_verify_t *verify))) \
    X(int, ptls_openssl_init_verify_certificate, (bp_pq_openssl_verify_t *verify, void *store)) \
    X(void, ptls_openssl_dispose_verify_certificate, (bp_pq_openssl_verify_t *verify)) \
    X(void **, ptls_get_data_ptr, (bp_pq_tls_t *tls)) \
    X(void *, X509_STORE_new, (void)) \
    X(void, X509_STORE_free, (void *store))
/* clang-format on */

#define BP_PICOQUIC_MEMBER(result, name, parameters) result(*name) parameters;
typedef struct {
    BP_PICOQUIC_SYMBOLS(BP_PICOQUIC_MEMBER)
} bp_picoquic_t;
#undef BP_PICOQUIC_MEMBER

/* The binding to a picoquic linked into this program; for the C tests and fuzzers. */
const bp_picoquic_t *bp_picoquic_static(void);

#endif
