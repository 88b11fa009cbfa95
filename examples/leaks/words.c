/* A Python extension that counts words, and leaks: a word that is there already is copied all the
 * same, and nobody has the copy. docs/LEAKS.md tells how Tally leads to the line. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

struct word {
  char* text;
  unsigned long count;
  struct word* next;
};
static struct word* table[4096];

static unsigned hash_of(const char* text) {
  unsigned hash = 5381;
  while (*text != 0) hash = hash * 33 + (unsigned char)*text++;
  return hash % (sizeof table / sizeof *table);
}

static char* copy_word(const char* from, size_t length) {
  char* text = malloc(length + 1);
  if (text == NULL) return NULL;
  memcpy(text, from, length);
  text[length] = 0;
  return text;
}

static int count_word(const char* from, size_t length) {
  char* text = copy_word(from, length);
  if (text == NULL) return -1;
  struct word** place = &table[hash_of(text)];
  for (struct word* word = *place; word != NULL; word = word->next) {
    if (strcmp(word->text, text) == 0) {
      word->count++;
      return 0; /* and the copy? */
    }
  }
  struct word* word = malloc(sizeof *word);
  if (word == NULL) return -1;
  *word = (struct word){text, 1, *place};
  *place = word;
  return 0;
}

static PyObject* count(PyObject* self, PyObject* args) {
  const char* text;
  (void)self;
  if (!PyArg_ParseTuple(args, "s", &text)) return NULL;
  while (*text != 0) {
    const size_t length = strcspn(text, " ");
    if (length != 0 && count_word(text, length) != 0) return PyErr_NoMemory();
    text += length + (text[length] != 0);
  }
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"count", count, METH_VARARGS, "count(text): counts its words"},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {.m_base = PyModuleDef_HEAD_INIT,
                                    .m_name = "words",
                                    .m_doc = "Words, counted.",
                                    .m_size = -1,
                                    .m_methods = methods};
PyMODINIT_FUNC PyInit_words(void) { return PyModule_Create(&module); }
