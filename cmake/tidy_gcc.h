/* Included before every source that clang-tidy reads: what GCC has and clang 14 lacks. Never compiled. */
/* GCC's omp.h names the function that frees: malloc (omp_free). The plain attribute stays. */
#define __malloc__(...)
/* Of the type that matters here, the first operand's. */
#define __builtin_shuffle(vector, ...) (vector)
