# Warnings are errors in everything of ours.
add_library(lethe_warnings INTERFACE)
target_compile_options(lethe_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Werror -Wshadow -Wpointer-arith>)
