# Makes Ollama's llama.cpp compile in 54 steps instead of 318, the kernels being the same bytes.
#
# Given as CMAKE_PROJECT_INCLUDE, it is read after every `project()`, and acts once: when the top
# folder is done. Many files that share their headers are compiled as one, because nearly all of
# their time is the reading of headers; and what only serves (HTTP, chat templates, JSON) is
# compiled with -O2. ggml, libllama and the sampler are left alone: they are compiled with -O3.
if(CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
  cmake_language(DEFER CALL joules_compile_fast)

  # Compiles the files of `target` in units of `batch`, but those named after it alone: two of these
  # in one unit would define one name twice.
  function(joules_in_units target batch)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${batch})
    get_target_property(folder ${target} SOURCE_DIR)
    foreach(file IN LISTS ARGN)
      set_source_files_properties(${folder}/${file} TARGET_DIRECTORY ${target}
        PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endforeach()
  endfunction()

  function(joules_compile_fast)
    joules_in_units(llama 64 models/gemma4.cpp llama-kv-cache-dsv4.cpp)
    joules_in_units(llama-common 16 chat.cpp json.cpp jinja/value.cpp sampling.cpp)
    joules_in_units(mtmd 30 mtmd-helper.cpp mtmd-helper-gen.cpp)
    joules_in_units(server-context 5)
    joules_in_units(llama-server-impl 8)
    foreach(target IN ITEMS llama-common mtmd server-context llama-server-impl cpp-httplib)
      target_compile_options(${target} PRIVATE -O2)
    endforeach()
    get_target_property(folder llama-common SOURCE_DIR)
    set_source_files_properties(${folder}/sampling.cpp TARGET_DIRECTORY llama-common
      PROPERTIES COMPILE_OPTIONS -O3)
  endfunction()
endif()
