/* Addresses: the flat form of engine.h and the operating system's. */
#include <string.h>

#include "internal.h"

/* Returns the size of the native form, 0 for an unknown family. */
socklen_t
bp_address_to_native(const bp_address_t *address, struct sockaddr_storage *native)
{
    memset(native, 0, sizeof(*native));
    if (address->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)native;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, 4);
        return (socklen_t)sizeof(*in);
    }
    if (address->family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)native;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(address->port);
        in6->sin6_scope_id = address->scope;
        memcpy(&in6->sin6_addr, address->ip, 16);
        return (socklen_t)sizeof(*in6);
    }
    return 0;
}

void
bp_address_from_native(const struct sockaddr_storage *native, bp_address_t *address)
{
    memset(address, 0, sizeof(*address));
    if (native->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)native;
        address->family = 4;
        address->port = ntohs(in->sin_port);
        memcpy(address->ip, &in->sin_addr, 4);
    } else if (native->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)native;
        address->family = 6;
        address->port = ntohs(in6->sin6_port);
        address->scope = in6->sin6_scope_id;
        memcpy(address->ip, &in6->sin6_addr, 16);
    }
}

/* Same family, IP and port; the IPv6 zone does not count. */
bool
bp_address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family) {
        return false;
    }
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const struct sockaddr_in *)a;
        const struct sockaddr_in *y = (const struct sockaddr_in *)b;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)a;
        const struct sockaddr_in6 *y = (const struct sockaddr_in6 *)b;
        return x->sin6_port == y->sin6_port &&
               memcmp(&x->sin6_addr, &y->sin6_addr, sizeof(x->sin6_addr)) == 0;
    }
    return false;
}
