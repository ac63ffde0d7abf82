#include "certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static char folder[] = "/tmp/barrel-test-XXXXXX";
static char certificate_path[64];
static char large_path[64];
static char key_path[64];

static void
remove_files(void)
{
    (void)unlink(certificate_path);
    (void)unlink(large_path);
    (void)unlink(key_path);
    (void)rmdir(folder);
}

/* An extension nobody reads, as heavy as that. */
static void
burden(X509 *certificate, size_t bytes)
{
    char *text = malloc(bytes + 1);
    CHECK(text != NULL);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_netscape_comment, text);
    CHECK(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
    free(text);
}

static void
write_certificate(EVP_PKEY *key, size_t burden_bytes, const char *path)
{
    X509 *certificate = X509_new();
    CHECK(certificate != NULL);
    CHECK(X509_set_version(certificate, 2) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test",
                                     -1, -1, 0) == 1);
    CHECK(X509_set_issuer_name(certificate, name) == 1);
    CHECK(X509_set_pubkey(certificate, key) == 1);
    if (burden_bytes > 0) {
        burden(certificate, burden_bytes);
    }
    CHECK(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
    X509_free(certificate);
}

static void
make_files(void)
{
    if (certificate_path[0] != '\0') {
        return;
    }
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s/certificate.pem", folder);
    (void)snprintf(large_path, sizeof(large_path), "%s/large.pem", folder);
    (void)snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
    CHECK(atexit(remove_files) == 0);

    EVP_PKEY *key = EVP_EC_gen("P-256");
    CHECK(key != NULL);
    write_certificate(key, 0, certificate_path);
    write_certificate(key, 20000, large_path);
    FILE *file = fopen(key_path, "w");
    CHECK(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 &&
          fclose(file) == 0);
    EVP_PKEY_free(key);
}

const char *
bp_test_certificate(void)
{
    make_files();
    return certificate_path;
}

const char *
bp_test_large_certificate(void)
{
    make_files();
    return large_path;
}

const char *
bp_test_key(void)
{
    make_files();
    return key_path;
}
