/* Put in front of every C++ file of llama.cpp by the Makefile (CMAKE_ARGS, -include).
 *
 * GCC's _tile_loadconfig (12.2 here) tells the optimizer that the instruction reads 8 bytes; it
 * reads 64. The rest of the tile configuration is then never written, and the first AMX
 * instruction faults. This definition names all 64 bytes. Other compilers and processors without
 * AMX are not touched.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__AMX_TILE__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) \
    __asm__ volatile("ldtilecfg %0" ::"m"(*(const char(*)[64])(config)))
#endif
