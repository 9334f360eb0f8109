/* test_keys.c - which events go into a batch of a keyed sink: the choice of keys, and where events of which key are. */
#include "../../delivery/bench.h"
#include "../../delivery/keys.h"
#include "../check_main.h"

START_TEST(keys_spread_over_all_stripes)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < 2000; i++) {
        char agent[16];
        snprintf(agent, sizeof agent, "agent-%u", i);
        struct spool_event event = SPOOL_EVENT(.agent = agent);
        uint64_t stripe = key_stripe(bench_key(&event, SPOOL_ORDER_AGENT));
        ck_assert_int_eq(__builtin_popcountll(stripe), 1);
        seen |= stripe;
    }
    ck_assert_uint_eq(seen, UINT64_MAX);
    ck_assert_uint_eq(key_stripe(0), 0);
}
END_TEST

/* Against the rules, with the answers remembered: never a busy key, never one that was refused, what is taken stays taken,
 * and of n free ones no more than the worker's part. */
START_TEST(a_picker_shares_out_what_is_free)
{
    unsigned seed = (unsigned)test_seed(5);
    for (unsigned round = 0; round < 2000; round++) {
        struct key_picker picker;
        uint64_t busy = (uint64_t)rand_r(&seed) << 32 ^ (uint64_t)rand_r(&seed), taken = 0, refused = 0;
        uint32_t workers = 2 + (uint32_t)rand_r(&seed) % 7, idle = (uint32_t)rand_r(&seed) % (workers + 1);
        key_picker_init(&picker, busy, workers, idle);
        for (unsigned i = 0; i < 200; i++) {
            uint64_t key = rand_r(&seed) % 10 ? 1 + (uint64_t)rand_r(&seed) % 100 : 0, stripe = key_stripe(key);
            bool takes = key_picker_take(&picker, stripe);
            ck_assert(takes || key != 0);
            ck_assert(!takes || ((busy | refused) & stripe) == 0);
            ck_assert(takes || (taken & stripe) == 0);
            *(takes ? &taken : &refused) |= stripe;
        }
        unsigned seen = (unsigned)__builtin_popcountll((taken | refused) & ~busy), share = idle > 0 ? idle : 1;
        ck_assert_int_le(__builtin_popcountll(taken), (seen + share - 1) / share);
        ck_assert_int_le(__builtin_popcountll(taken), (STRIPES + workers - 1) / workers);
        ck_assert_int_eq(__builtin_popcountll(taken) > 0, seen > 0);
        ck_assert_uint_eq(picker.taken, taken);
    }
}
END_TEST

/* Against an array of all: what is said to be known is so, and what was put last and lies near is known. */
START_TEST(an_index_knows_the_stripes_near_the_last)
{
    enum { SEQS = 4 * KEY_AHEAD_MAX };
    static uint64_t model[SEQS]; /* of the stripe, + 1 for none; 0: never put */
    static struct key_index index;
    unsigned seed = (unsigned)test_seed(9);
    uint64_t seq = 100, stripe;
    for (unsigned step = 0; step < 60000; step++) {
        unsigned dice = (unsigned)rand_r(&seed) % 1000;
        seq = dice == 0   ? (uint64_t)rand_r(&seed) % SEQS
              : dice < 20 ? seq + (uint64_t)rand_r(&seed) % 3000
              : dice < 40 ? seq - (uint64_t)rand_r(&seed) % 3000
                          : seq + 1;
        seq %= SEQS;
        model[seq] = rand_r(&seed) % 8 ? 1ull << (unsigned)rand_r(&seed) % STRIPES : 0;
        key_index_put(&index, seq, model[seq]);
        ck_assert(key_index_get(&index, seq, &stripe) && stripe == model[seq]);
        uint64_t other = (uint64_t)rand_r(&seed) % SEQS;
        ck_assert(!key_index_get(&index, other, &stripe) || stripe == model[other]);
        ck_assert(!key_index_get(&index, index.end, &stripe));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("keys");
    TCase *tc = tcase_create("keys");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, keys_spread_over_all_stripes);
    tcase_add_test(tc, a_picker_shares_out_what_is_free);
    tcase_add_test(tc, an_index_knows_the_stripes_near_the_last);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
