# The backend by nvcc. One call compiles a file, or a group of files, for all architectures. CMake's own
# CUDA language is not used: its checks take longer than a kernel, and releases of it lag behind those of
# nvcc.
set(LONGSPAN_GENCODE)
string(REPLACE "," ";" LONGSPAN_ARCHITECTURE_LIST ${LONGSPAN_CUDA_ARCHITECTURES})
foreach(architecture IN LISTS LONGSPAN_ARCHITECTURE_LIST)
  string(REPLACE "-virtual" "" number ${architecture}) # PTX, for GPUs of later generations
  string(COMPARE EQUAL ${number} ${architecture} is_code)
  if(is_code)
    list(APPEND LONGSPAN_GENCODE -gencode arch=compute_${number},code=sm_${number})
  else()
    list(APPEND LONGSPAN_GENCODE -gencode arch=compute_${number},code=compute_${number})
  endif()
endforeach()

# The flags of host code as longspan_target_options has them. 2810: nvcc takes the assignment of a
# [[nodiscard]] class for a result that is ignored.
set(LONGSPAN_NVCC_FLAGS -std=c++20 -O2 -I${CMAKE_SOURCE_DIR} -ccbin ${CMAKE_CXX_COMPILER} ${LONGSPAN_GENCODE}
    --compress-mode=size -diag-suppress=2810 -Xcompiler=-fPIC,-fvisibility=hidden,-fvisibility-inlines-hidden,-fsigned-char,-Wno-psabi)
if(LONGSPAN_WERROR)
  list(APPEND LONGSPAN_NVCC_FLAGS -Werror all-warnings)
endif()

# nvcc parses the headers of a file twice for the host and once for each architecture, most of the work
# for a small file; a group parses them once.
set(LONGSPAN_NVCC_SOURCES ${LONGSPAN_CUDA_KERNELS})
if(LONGSPAN_UNITY_BUILD)
  set(groups)
  foreach(source IN LISTS LONGSPAN_CUDA_KERNELS)
    get_source_file_property(group ${source} UNITY_GROUP)
    list(APPEND groups ${group})
    string(APPEND includes_of_${group} "#include \"${source}\"\n")
  endforeach()
  list(REMOVE_DUPLICATES groups)
  set(LONGSPAN_NVCC_SOURCES)
  foreach(group IN LISTS groups)
    set(file ${CMAKE_BINARY_DIR}/${group}.cu)
    file(CONFIGURE OUTPUT ${file} CONTENT "${includes_of_${group}}")
    list(APPEND LONGSPAN_NVCC_SOURCES ${file})
  endforeach()
endif()

set(LONGSPAN_CUDA_OBJECTS)
foreach(source IN LISTS LONGSPAN_NVCC_SOURCES)
  file(RELATIVE_PATH name ${CMAKE_SOURCE_DIR} ${source})
  if(LONGSPAN_UNITY_BUILD)
    get_filename_component(name ${source} NAME)
  endif()
  set(object ${CMAKE_BINARY_DIR}/nvcc/${name}.o)
  get_filename_component(folder ${object} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(OUTPUT ${object} DEPENDS ${source} DEPFILE ${object}.d COMMENT "nvcc ${name}" VERBATIM
                     COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${LONGSPAN_NVCC} ${LONGSPAN_NVCC_FLAGS}
                             -MD -MT ${object} -MF ${object}.d -c ${source} -o ${object})
  list(APPEND LONGSPAN_CUDA_OBJECTS ${object})
endforeach()
# A target of its own: make would otherwise begin with these when everything else is done.
add_custom_target(longspan_nvcc DEPENDS ${LONGSPAN_CUDA_OBJECTS})
set_source_files_properties(${LONGSPAN_CUDA_OBJECTS} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)

add_library(longspan_cuda OBJECT ${LONGSPAN_CUDA_SOURCES})
longspan_target_options(longspan_cuda)
target_include_directories(longspan_cuda SYSTEM PRIVATE ${LONGSPAN_CUDA_INCLUDE})
set_source_files_properties(cuda/core/gpu_device.cc PROPERTIES
                            COMPILE_DEFINITIONS LONGSPAN_CUDA_ARCHITECTURES="${LONGSPAN_CUDA_ARCHITECTURES}")
list(APPEND LONGSPAN_OBJECTS $<TARGET_OBJECTS:longspan_cuda> ${LONGSPAN_CUDA_OBJECTS})
# The static runtime looks for the driver when it is first called; librt is part of glibc 2.34.
set(LONGSPAN_CUDA_LIBRARIES ${LONGSPAN_CUDART} rt)
