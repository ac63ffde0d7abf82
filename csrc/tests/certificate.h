/*
 * A certificate for engines under test: self-signed P-256, made once a process in a
 * folder of its own, removed at exit.
 */
#ifndef BP_TESTS_CERTIFICATE_H
#define BP_TESTS_CERTIFICATE_H

/* Paths of PEM files; they stay valid until exit. Ends the program if it cannot write. */
const char *bp_test_certificate(void);
/* The same key certified in 20,000 bytes and more. */
const char *bp_test_large_certificate(void);
const char *bp_test_key(void);

#endif
