/* An auditor of the dynamic linker: it is told of each object and symbol, in a namespace of its own
 * with a malloc of its own. */
#define _GNU_SOURCE
#include <link.h>
#include <stdlib.h>

unsigned la_version(unsigned version) { return version < LAV_CURRENT ? version : LAV_CURRENT; }

unsigned la_objopen(struct link_map* map, Lmid_t namespace, uintptr_t* cookie) {
  (void)map, (void)namespace, (void)cookie;
  free(malloc(1000));
  return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

uintptr_t la_symbind64(Elf64_Sym* symbol, unsigned index, uintptr_t* from, uintptr_t* to,
                       unsigned* flags, const char* name) {
  (void)index, (void)from, (void)to, (void)flags, (void)name;
  return symbol->st_value;
}
