# A static picoquic for ctest, the sanitizers and the fuzzers.
#
# The wheel's shared object needs a Python process around it, so C tests cannot use it.
# This builds the same sources, with the same patches, from the source distribution of
# the same release, once per compiler and set of flags, into a cache folder.
#
# In:   BARREL_PICOQUIC        prefix (include/, lib/) of a ready build; skips everything
#       BARREL_PICOQUIC_SDIST  path of the source distribution; skips the download
#       BARREL_PYTHON          a Python >= 3.12 with pip, for the download
#       BARREL_SANITIZE_FLAGS  passed down to both libraries
# Out:  target barrel::picoquic; BARREL_PICOQUIC_PREFIX
#
# Fusion, the x86 AES-GCM backend, stays off: picoquic's own build turns it off because
# the backend asserts on paths real connections take, and the wheel has none of it.

set(BARREL_PICOQUIC "" CACHE PATH "prefix of a static picoquic; empty: build one into the cache")
set(BARREL_PICOQUIC_SDIST "" CACHE FILEPATH "aiopquic source distribution; empty: download with pip")
set(BARREL_PYTHON "" CACHE FILEPATH "Python >= 3.12 with pip; empty: search")

# Keep in step with the pin in pyproject.toml.
set(BARREL_AIOPQUIC_VERSION 0.6.1)
set(BARREL_AIOPQUIC_SHA256 72579146e0f22859a5a7c197246604fef460b9e1b578a2910156dff7679efd29)

function(barrel_run what log)
    execute_process(
        COMMAND ${ARGN}
        OUTPUT_FILE "${log}" ERROR_FILE "${log}"
        RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
        file(READ "${log}" text)
        string(LENGTH "${text}" length)
        math(EXPR start "${length} > 3000 ? ${length} - 3000 : 0")
        string(SUBSTRING "${text}" ${start} -1 tail)
        message(FATAL_ERROR "picoquic: ${what} failed (${status}); log: ${log}\n${tail}")
    endif()
endfunction()

# The replaced text must be there: a new release has to be looked at again.
function(barrel_edit file from to)
    file(READ "${file}" text)
    string(FIND "${text}" "${from}" at)
    if(at EQUAL -1)
        message(FATAL_ERROR "picoquic: ${file} no longer contains '${from}'")
    endif()
    string(REPLACE "${from}" "${to}" text "${text}")
    file(WRITE "${file}" "${text}")
endfunction()

function(barrel_find_python out)
    set(found "")
    foreach(candidate IN ITEMS "${BARREL_PYTHON}" "${CMAKE_SOURCE_DIR}/.venv/bin/python"
            python3.13 python3.12 python3.14 python3)
        if(candidate STREQUAL "")
            continue()
        endif()
        # A version manager's shim can be on PATH and still fail, so run each candidate.
        execute_process(
            COMMAND "${candidate}" -c "import sys, pip; print(sys.version_info >= (3, 12))"
            OUTPUT_VARIABLE answer ERROR_QUIET RESULT_VARIABLE status
            OUTPUT_STRIP_TRAILING_WHITESPACE)
        if(status EQUAL 0 AND answer STREQUAL "True")
            set(found "${candidate}")
            break()
        endif()
    endforeach()
    if(found STREQUAL "")
        message(FATAL_ERROR "picoquic: the download needs a Python >= 3.12 with pip; "
            "pass -DBARREL_PYTHON=<path>, -DBARREL_PICOQUIC_SDIST=<aiopquic-"
            "${BARREL_AIOPQUIC_VERSION}.tar.gz> or -DBARREL_PICOQUIC=<prefix>")
    endif()
    set(${out} "${found}" PARENT_SCOPE)
endfunction()

function(barrel_fetch_sdist cache out)
    set(name aiopquic-${BARREL_AIOPQUIC_VERSION}.tar.gz)
    set(sdist "${BARREL_PICOQUIC_SDIST}")
    if(sdist STREQUAL "")
        set(sdist "${cache}/${name}")
    endif()
    if(NOT EXISTS "${sdist}")
        if(NOT BARREL_PICOQUIC_SDIST STREQUAL "")
            message(FATAL_ERROR "picoquic: BARREL_PICOQUIC_SDIST=${sdist} does not exist")
        endif()
        barrel_find_python(python)
        message(STATUS "picoquic: downloading ${name}")
        barrel_run("pip download" "${cache}/download.log" "${python}" -m pip download
            --no-deps --no-binary aiopquic --dest "${cache}" aiopquic==${BARREL_AIOPQUIC_VERSION})
    endif()
    file(SHA256 "${sdist}" digest)
    if(NOT digest STREQUAL BARREL_AIOPQUIC_SHA256)
        message(FATAL_ERROR "picoquic: ${sdist} has SHA-256 ${digest}, "
            "not ${BARREL_AIOPQUIC_SHA256}; remove it and configure again")
    endif()
    set(${out} "${sdist}" PARENT_SCOPE)
endfunction()

function(barrel_unpack_sdist sdist work)
    file(REMOVE_RECURSE "${work}")
    file(ARCHIVE_EXTRACT INPUT "${sdist}" DESTINATION "${work}")
    set(root "${work}/aiopquic-${BARREL_AIOPQUIC_VERSION}")
    find_program(BARREL_PATCH NAMES patch REQUIRED)
    mark_as_advanced(BARREL_PATCH)
    file(GLOB patches "${root}/patches/*.patch")
    foreach(patch IN LISTS patches)
        get_filename_component(name "${patch}" NAME)
        barrel_run("${name}" "${work}/patch.log" "${BARREL_PATCH}"
            -p1 --batch -d "${root}/third_party/picoquic" -i "${patch}")
    endforeach()
    # Neither library compiles a line of C++, and certificate compression is not used:
    # do without a C++ compiler, pkg-config and brotli.
    barrel_edit("${root}/third_party/picoquic/CMakeLists.txt" "LANGUAGES C CXX" "LANGUAGES C")
    barrel_edit("${root}/third_party/picotls/CMakeLists.txt" "FIND_PACKAGE(PkgConfig REQUIRED)" "")
    foreach(way IN ITEMS "DEC libbrotlidec" "ENC libbrotlienc")
        barrel_edit("${root}/third_party/picotls/CMakeLists.txt" "PKG_CHECK_MODULES(BROTLI_${way})" "")
    endforeach()
    set(picotls "${root}/third_party/picotls/CMakeLists.txt")
    file(READ "${picotls}" text)
    string(REPLACE "PROJECT(picotls)" "PROJECT(picotls C)" text "${text}")
    file(WRITE "${picotls}" "${text}")
endfunction()

function(barrel_build_picoquic third_party work prefix)
    include(ProcessorCount)
    set(jobs "$ENV{CMAKE_BUILD_PARALLEL_LEVEL}")
    if(jobs STREQUAL "")
        ProcessorCount(jobs)
    endif()
    set(common -G "${CMAKE_GENERATOR}"
        "-DCMAKE_C_COMPILER=${CMAKE_C_COMPILER}"
        "-DCMAKE_C_FLAGS=${BARREL_PICOQUIC_C_FLAGS}"
        "-DOPENSSL_ROOT_DIR=${OPENSSL_ROOT_DIR}"
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_POSITION_INDEPENDENT_CODE=ON
        -DCMAKE_POLICY_VERSION_MINIMUM=3.5)

    set(tls "${work}/picotls")
    message(STATUS "picoquic: building picotls")
    barrel_run("configuring picotls" "${work}/picotls.log" "${CMAKE_COMMAND}"
        -S "${third_party}/picotls" -B "${tls}" ${common} -DWITH_FUSION=OFF -DWITH_DTRACE=OFF)
    barrel_run("building picotls" "${work}/picotls.log" "${CMAKE_COMMAND}"
        --build "${tls}" --parallel ${jobs}
        --target picotls-core --target picotls-openssl --target picotls-minicrypto)

    set(quic "${work}/picoquic")
    message(STATUS "picoquic: building picoquic")
    barrel_run("configuring picoquic" "${work}/picoquic.log" "${CMAKE_COMMAND}"
        -S "${third_party}/picoquic" -B "${quic}" ${common}
        -DPTLS_WITH_FUSION=OFF -DDISABLE_DEBUG_PRINTF=ON
        -Dpicoquic_BUILD_TESTS=OFF -DBUILD_DEMO=OFF -DBUILD_HTTP=OFF -DBUILD_PQBENCH=OFF
        -DBUILD_LOGLIB=OFF -DBUILD_LOGREADER=OFF -DBUILD_PICO_SIM=OFF
        "-DPTLS_INCLUDE_DIR=${third_party}/picotls/include"
        "-DPTLS_CORE_LIBRARY=${tls}/libpicotls-core.a"
        "-DPTLS_OPENSSL_LIBRARY=${tls}/libpicotls-openssl.a"
        "-DPTLS_MINICRYPTO_LIBRARY=${tls}/libpicotls-minicrypto.a")
    barrel_run("building picoquic" "${work}/picoquic.log" "${CMAKE_COMMAND}"
        --build "${quic}" --parallel ${jobs} --target picoquic-core)

    # Renaming is atomic: a build that was interrupted leaves no prefix behind.
    file(REMOVE_RECURSE "${prefix}" "${prefix}.part")
    file(GLOB headers "${third_party}/picoquic/picoquic/*.h" "${third_party}/picotls/include/*.h")
    file(GLOB archives "${tls}/libpicotls-*.a" "${quic}/libpicoquic-core.a")
    file(GLOB licences "${third_party}/picoquic/LICENSE*")
    file(COPY ${headers} "${third_party}/picotls/include/picotls" DESTINATION "${prefix}.part/include")
    file(COPY ${archives} ${licences} DESTINATION "${prefix}.part/lib")
    file(RENAME "${prefix}.part" "${prefix}")
endfunction()

function(barrel_cached_picoquic out)
    if(DEFINED ENV{XDG_CACHE_HOME} AND NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
        set(cache "$ENV{XDG_CACHE_HOME}/barrel_p2p")
    else()
        set(cache "$ENV{HOME}/.cache/barrel_p2p")
    endif()
    file(MAKE_DIRECTORY "${cache}")

    # -w: warnings of other people's code are theirs to read.
    set(BARREL_PICOQUIC_C_FLAGS "-g -w -fno-omit-frame-pointer ${BARREL_SANITIZE_FLAGS}")
    if(BARREL_SANITIZE_FLAGS)
        # A header cut short makes it add 0 to NULL and copy 0 bytes: undefined, and harmless.
        string(APPEND BARREL_PICOQUIC_C_FLAGS " -fno-sanitize=nonnull-attribute,pointer-overflow")
    endif()
    file(READ "${CMAKE_CURRENT_FUNCTION_LIST_FILE}" recipe)
    string(SHA256 key "${recipe}|${BARREL_PICOQUIC_C_FLAGS}|${CMAKE_C_COMPILER}|${CMAKE_C_COMPILER_VERSION}|${OPENSSL_VERSION}")
    string(SUBSTRING "${key}" 0 12 key)
    set(prefix "${cache}/picoquic-${BARREL_AIOPQUIC_VERSION}-${CMAKE_C_COMPILER_ID}-${key}")

    file(LOCK "${cache}/picoquic.lock" GUARD FUNCTION TIMEOUT 1800)
    if(NOT EXISTS "${prefix}")
        set(work "${cache}/work-${key}")
        barrel_fetch_sdist("${cache}" sdist)
        barrel_unpack_sdist("${sdist}" "${work}")
        barrel_build_picoquic("${work}/aiopquic-${BARREL_AIOPQUIC_VERSION}/third_party" "${work}" "${prefix}")
        file(REMOVE_RECURSE "${work}")
    endif()
    set(${out} "${prefix}" PARENT_SCOPE)
endfunction()

if(BARREL_PICOQUIC)
    set(BARREL_PICOQUIC_PREFIX "${BARREL_PICOQUIC}")
else()
    barrel_cached_picoquic(BARREL_PICOQUIC_PREFIX)
endif()
message(STATUS "picoquic: ${BARREL_PICOQUIC_PREFIX}")

add_library(barrel_picoquic INTERFACE)
add_library(barrel::picoquic ALIAS barrel_picoquic)
foreach(name IN ITEMS picoquic-core picotls-openssl picotls-minicrypto picotls-core)
    find_library(BARREL_LIB_${name} NAMES lib${name}.a NO_CACHE NO_DEFAULT_PATH REQUIRED
        PATHS "${BARREL_PICOQUIC_PREFIX}/lib" "${BARREL_PICOQUIC_PREFIX}/lib64")
    list(APPEND BARREL_PICOQUIC_ARCHIVES "${BARREL_LIB_${name}}")
endforeach()
find_path(BARREL_PICOQUIC_INCLUDE picoquic.h NO_CACHE NO_DEFAULT_PATH REQUIRED
    PATHS "${BARREL_PICOQUIC_PREFIX}/include")
target_include_directories(barrel_picoquic SYSTEM INTERFACE "${BARREL_PICOQUIC_INCLUDE}")
target_link_libraries(barrel_picoquic INTERFACE
    ${BARREL_PICOQUIC_ARCHIVES} OpenSSL::SSL OpenSSL::Crypto Threads::Threads ${CMAKE_DL_LIBS} m)

# The same build as one shared object with every symbol visible, for BARREL_P2P_PICOQUIC.
file(GENERATE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/picoquic_barrel.c"
    CONTENT "/* Everything in the shared object comes from the archives. */\n")
add_library(picoquic_barrel SHARED EXCLUDE_FROM_ALL "${CMAKE_CURRENT_BINARY_DIR}/picoquic_barrel.c")
target_link_libraries(picoquic_barrel PRIVATE
    -Wl,--whole-archive ${BARREL_PICOQUIC_ARCHIVES} -Wl,--no-whole-archive
    OpenSSL::SSL OpenSSL::Crypto Threads::Threads m)
