# The import library of OBS's own obs.dll, made of obs.def, and headers that libobs' include.
set(headers ${CMAKE_CURRENT_BINARY_DIR}/headers)
file(MAKE_DIRECTORY ${headers})
# Linked, for the folder itself may hold the headers of another system.
file(CREATE_LINK ${SIMDE_PARENT_DIR}/simde ${headers}/simde SYMBOLIC)

set(library ${CMAKE_CURRENT_BINARY_DIR}/libobs-import.a)
set(names ${CMAKE_CURRENT_LIST_DIR}/obs.def)
add_custom_command(OUTPUT ${library} DEPENDS ${names}
  COMMAND ${CMAKE_DLLTOOL} -d ${names} -D obs.dll -l ${library})
add_custom_target(obs-import-library DEPENDS ${library})
add_library(obs-import INTERFACE)
add_dependencies(obs-import obs-import-library)
target_include_directories(obs-import SYSTEM INTERFACE ${headers})
target_link_libraries(obs-import INTERFACE ${library})
# simde gives intrinsics' names another meaning; Windows' own headers must have had them before.
target_compile_options(obs-import INTERFACE -include x86intrin.h)
