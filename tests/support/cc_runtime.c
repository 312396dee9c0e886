/* Loads a SavedModel through TensorFlow's C API, as the loader of TensorFlow Serving does,
   and runs requests through its session.

       cc_runtime FOLDER

   The first line that it prints is "load CODE VERSION MESSAGE", where VERSION is that of
   the runtime. Then it reads requests from standard input, as lines of words:

       feed OPERATION INDEX TYPE RANK SIZE... VALUE...
       get OPERATION INDEX
       run

   For each "run" it prints a line "run CODE MESSAGE" and, if the code is 0, a line
   "TYPE RANK SIZE... VALUE..." for each "get", in order. TYPE is a number of TF_DataType. A
   string is an x and its bytes in hexadecimal. The exit code is 1 if the SavedModel cannot be
   loaded, and 2 if a line is malformed. */

#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

enum { MAX_TENSORS = 32, MAX_RANK = 8 };

/* tensorflow::DisableXlaCompilation(), which the server calls before it does anything else. */
void disable_xla_compilation(void) __asm__("_ZN10tensorflow21DisableXlaCompilationEv");

static char *rest; /* rest of the current line */

static void fail(const char *message, const char *what) {
  fprintf(stderr, "cc_runtime: %s: %s\n", message, what);
  exit(2);
}

static char *word(void) {
  char *next = strtok_r(NULL, " \n", &rest);
  if (!next) fail("incomplete line", "too few words");
  return next;
}

static int64_t number(void) { return strtoll(word(), NULL, 10); }

static TF_Output find_output(TF_Graph *graph) {
  const char *name = word();
  TF_Output output = {TF_GraphOperationByName(graph, name), 0};
  if (!output.oper) fail("no such operation", name);
  output.index = (int)number();
  return output;
}

static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

static void read_string(TF_TString *to) {
  char *hex = word();
  size_t length = strlen(hex) / 2;
  if (hex[0] != 'x') fail("not a string", hex);
  for (size_t at = 0; at < length; at++) {
    hex[at] = (char)(digit(hex[2 * at + 1]) << 4 | digit(hex[2 * at + 2]));
  }
  TF_StringInit(to);
  TF_StringCopy(to, hex, length);
}

static void read_value(TF_DataType type, void *data, int64_t at) {
  switch (type) {
    case TF_STRING: read_string((TF_TString *)data + at); break;
    case TF_FLOAT: ((float *)data)[at] = strtof(word(), NULL); break;
    case TF_DOUBLE: ((double *)data)[at] = strtod(word(), NULL); break;
    case TF_INT32: ((int32_t *)data)[at] = (int32_t)number(); break;
    case TF_INT64: ((int64_t *)data)[at] = number(); break;
    case TF_BOOL: ((unsigned char *)data)[at] = number() != 0; break;
    default: fail("unknown type of an input", "supported: string, float, double, int32, int64, bool");
  }
}

static TF_Tensor *read_tensor(void) {
  TF_DataType type = (TF_DataType)number();
  int rank = (int)number();
  int64_t sizes[MAX_RANK], count = 1;
  if (rank < 0 || rank > MAX_RANK) fail("invalid input", "too many dimensions");
  for (int at = 0; at < rank; at++) count *= sizes[at] = number();
  size_t size = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type);
  TF_Tensor *tensor = TF_AllocateTensor(type, sizes, rank, (size_t)count * size);
  for (int64_t at = 0; at < count; at++) read_value(type, TF_TensorData(tensor), at);
  return tensor;
}

static void delete_tensor(TF_Tensor *tensor) {
  if (TF_TensorType(tensor) == TF_STRING) { /* the tensor does not own the bytes of its strings */
    TF_TString *strings = TF_TensorData(tensor);
    for (int64_t at = 0; at < TF_TensorElementCount(tensor); at++) TF_StringDealloc(strings + at);
  }
  TF_DeleteTensor(tensor);
}

static void write_value(TF_DataType type, const void *data, int64_t at) {
  switch (type) {
    case TF_STRING: {
      const TF_TString *string = (const TF_TString *)data + at;
      const char *bytes = TF_StringGetDataPointer(string);
      fputs(" x", stdout);
      for (size_t i = 0; i < TF_StringGetSize(string); i++) printf("%02x", (unsigned char)bytes[i]);
      break;
    }
    case TF_FLOAT: printf(" %.9g", ((const float *)data)[at]); break;
    case TF_INT32: printf(" %" PRId32, ((const int32_t *)data)[at]); break;
    case TF_INT64: printf(" %" PRId64, ((const int64_t *)data)[at]); break;
    case TF_BOOL: printf(" %d", ((const unsigned char *)data)[at]); break;
    default: fail("unknown type of an output", "supported: string, float, int32, int64, bool");
  }
}

static void write_tensor(const TF_Tensor *tensor) {
  TF_DataType type = TF_TensorType(tensor);
  printf("%d %d", type, TF_NumDims(tensor));
  for (int at = 0; at < TF_NumDims(tensor); at++) printf(" %" PRId64, TF_Dim(tensor, at));
  for (int64_t at = 0; at < TF_TensorElementCount(tensor); at++) {
    write_value(type, TF_TensorData(tensor), at);
  }
  putchar('\n');
}

/* Writes the rest of a line: a code, the version unless it is empty, and a message. */
static void write_status(const TF_Status *status, const char *version) {
  printf(" %d %s%s", TF_GetCode(status), version, *version ? " " : "");
  for (const char *c = TF_Message(status); *c; c++) putchar(*c == '\n' ? ' ' : *c);
  putchar('\n');
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage", "cc_runtime FOLDER");
  disable_xla_compilation();
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  fputs("load", stdout);
  write_status(status, TF_Version());
  fflush(stdout);
  if (TF_GetCode(status) != TF_OK) return 1;

  TF_Output feeds[MAX_TENSORS], fetches[MAX_TENSORS];
  TF_Tensor *inputs[MAX_TENSORS], *outputs[MAX_TENSORS];
  int feed_count = 0, fetch_count = 0;
  char *line = NULL;
  size_t capacity = 0;
  while (getline(&line, &capacity, stdin) > 0) {
    const char *verb = strtok_r(line, " \n", &rest);
    if (!verb) fail("invalid line", "it is empty");
    if (feed_count == MAX_TENSORS || fetch_count == MAX_TENSORS) fail("invalid request", "too many tensors");
    if (!strcmp(verb, "feed")) {
      feeds[feed_count] = find_output(graph);
      inputs[feed_count++] = read_tensor();
    } else if (!strcmp(verb, "get")) {
      fetches[fetch_count++] = find_output(graph);
    } else if (!strcmp(verb, "run")) {
      TF_SessionRun(session, NULL, feeds, inputs, feed_count, fetches, outputs, fetch_count, NULL, 0, NULL,
                    status);
      fputs("run", stdout);
      write_status(status, "");
      for (int at = 0; TF_GetCode(status) == TF_OK && at < fetch_count; at++) {
        write_tensor(outputs[at]);
        TF_DeleteTensor(outputs[at]);
      }
      fflush(stdout);
      while (feed_count > 0) delete_tensor(inputs[--feed_count]);
      fetch_count = 0;
    } else {
      fail("unknown verb", verb);
    }
  }
  return 0;
}
