/* Tally from C: tags and what they hold, a limit that refuses, an arena, and the whole table.
 *
 * The program reads words, counts them in a table, and puts together a report. The words live as
 * long as the table does, and are its tag's; the report is scratch space, in an arena. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

enum { BUCKETS = 256, WORDS = 20000, LIMIT = 256 * 1024 };

typedef struct entry {
  struct entry* next;
  unsigned count;
  char word[];
} entry;

static int failures = 0;

static void holds(int condition, const char* what) {
  if (condition) return;
  printf("NOT SO: %s\n", what);
  failures++;
}

static tally_stats_t stats_of(tally_tag tag) {
  tally_stats_t stats = {.size = sizeof stats};
  holds(tally_stats(tag, &stats) == 0, "a tag has statistics");
  return stats;
}

/* Counts the word. -1: the tag's limit refused a new one. */
static int count_word(entry** table, tally_tag tag, const char* word) {
  unsigned hash = 5381;
  for (const char* at = word; *at; at++) hash = hash * 33 + (unsigned char)*at;
  entry** bucket = &table[hash % BUCKETS];
  for (entry* e = *bucket; e; e = e->next) {
    if (strcmp(e->word, word) == 0) return (int)++e->count;
  }
  size_t length = strlen(word) + 1;
  entry* made = tally_malloc(tag, sizeof *made + length);
  if (!made) return -1;
  made->count = 1;
  made->next = *bucket;
  memcpy(made->word, word, length);
  *bucket = made;
  return 1;
}

static int by_count(const void* a, const void* b) {
  const entry* const* first = a;
  const entry* const* second = b;
  return ((*first)->count < (*second)->count) - ((*first)->count > (*second)->count);
}

/* The most frequent words, sorted in the arena and left there as a text. NULL: no memory. */
static char* report(tally_arena* arena, entry** table, size_t words) {
  char* text = tally_arena_alloc(arena, 200, 1);
  tally_mark mark = tally_arena_mark(arena);
  entry** sorted = tally_arena_alloc(arena, words * sizeof *sorted, _Alignof(entry*));
  if (!text || mark == TALLY_MARK_NONE || !sorted) return NULL;
  size_t n = 0;
  for (int b = 0; b < BUCKETS; b++) {
    for (entry* e = table[b]; e; e = e->next) sorted[n++] = e;
  }
  qsort(sorted, n, sizeof *sorted, by_count);
  int length = 0;
  for (size_t i = 0; i < n && i < 3; i++) {
    length += snprintf(text + length, (size_t)(200 - length), " %s (%u)", sorted[i]->word,
                       sorted[i]->count);
  }
  holds(tally_arena_rewind(arena, mark) == 0, "the array goes, the text before it stays");
  return text;
}

int main(void) {
  tally_tag words = tally_tag_create("words/table"), scratch = tally_tag_create("words/report");
  tally_arena* arena = tally_arena_create(scratch, NULL); /* NULL if the tag could not be made */
  if (tally_limit_set(words, TALLY_LIMIT_NONE, LIMIT, TALLY_POLICY_FAIL) != 0 || !arena) {
    perror("words");
    return 1;
  }

  static entry* table[BUCKETS];
  size_t known = 0, refused = 0;
  srand(1);
  for (int i = 0; i < WORDS; i++) {
    char word[32];
    snprintf(word, sizeof word, "word%d", rand() % (rand() % 20000 + 1));
    int count = count_word(table, words, word);
    if (count == 1) known++;
    if (count < 0) refused++;
  }
  tally_stats_t stats = stats_of(words);
  printf("%s: %zu words in %llu KiB of %d; %zu were refused\n", stats.name, known,
         (unsigned long long)stats.total.footprint_bytes / 1024, LIMIT / 1024, refused);
  holds(stats.own.live_blocks == known, "a block for each word");
  holds(refused != 0 && stats.refused_count != 0, "the limit is met");
  holds(stats.total.peak_footprint_bytes <= LIMIT, "and never exceeded");

  uint64_t after_first = 0;
  for (int i = 0; i < 100; i++) {
    char* text = report(arena, table, known);
    holds(text != NULL, "there is memory for the report");
    if (text && i == 0) printf("the most frequent:%s\n", text);
    tally_arena_reset(arena);
    if (i == 2) after_first = stats_of(scratch).own.alloc_count;
  }
  tally_arena_stats_t arena_stats = {.size = sizeof arena_stats};
  holds(tally_arena_stats(arena, &arena_stats) == 0, "an arena has statistics");
  printf("the arena used %llu bytes at most, and keeps %llu\n",
         (unsigned long long)arena_stats.peak_used_bytes,
         (unsigned long long)arena_stats.reserved_bytes);
  holds(stats_of(scratch).own.alloc_count == after_first, "it calls the heap no more");

  printf("\n");
  fflush(stdout);
  holds(tally_snapshot_text_fd(1) == 0, "the table is printed");

  tally_arena_destroy(arena);
  for (int b = 0; b < BUCKETS; b++) {
    while (table[b]) {
      entry* next = table[b]->next;
      tally_free(table[b]);
      table[b] = next;
    }
  }
  holds(stats_of(words).own.live_blocks == 0, "every word is freed");
  holds(stats_of(scratch).own.live_blocks == 0, "and the arena");
  return failures != 0;
}
