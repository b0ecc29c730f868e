# Cross-build for Windows:
#   cmake -S plugins/obs -B build/obs-windows -DLIBOBS_INCLUDE_DIR=/usr/include/obs \
#     -DCMAKE_TOOLCHAIN_FILE=$PWD/plugins/obs/windows/mingw-w64.cmake
# Debian: gcc-mingw-w64-x86-64 libobs-dev libsimde-dev
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc)
set(CMAKE_DLLTOOL x86_64-w64-mingw32-dlltool)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
