/*
 * Stands before Vulkan's loader and says of every device that it indexes arrays of sampled and of
 * storage images dynamically (VkPhysicalDeviceFeatures 34 and 36), and asks for neither when a device
 * is made. LEMBAS_VULKAN_LOADER names the loader itself.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void (*function)(void);
struct chained { int32_t type; struct chained *next; };
struct device_info {
  int32_t type; struct chained *next; uint32_t flags;
  uint32_t queues; const void *queue_infos;
  uint32_t layers; const void *layer_names;
  uint32_t extensions; const void *extension_names;
  uint32_t *features;
};

enum { FEATURES = 55, FEATURES_2 = 1000059000, FEATURES_2_AT = 16 };

static void *loader(void) {
  static void *opened;
  if (opened == NULL) opened = dlopen(getenv("LEMBAS_VULKAN_LOADER"), RTLD_NOW | RTLD_LOCAL);
  return opened;
}

static function real(const char *name) { return (function)dlsym(loader(), name); }

static void set(uint32_t *features, uint32_t value) { features[34] = features[36] = value; }

void vkGetPhysicalDeviceFeatures(void *device, uint32_t *features) {
  ((void (*)(void *, uint32_t *))real("vkGetPhysicalDeviceFeatures"))(device, features);
  set(features, 1);
}

void vkGetPhysicalDeviceFeatures2(void *device, char *features) {
  ((void (*)(void *, char *))real("vkGetPhysicalDeviceFeatures2"))(device, features);
  set((uint32_t *)(features + FEATURES_2_AT), 1);
}

int vkCreateDevice(void *device, const struct device_info *given, void *allocator, void *out) {
  struct device_info info = *given;
  uint32_t features[FEATURES];
  if (info.features != NULL) {
    memcpy(features, info.features, sizeof features);
    set(features, 0);
    info.features = features;
  }
  for (struct chained *part = info.next; part != NULL; part = part->next) {
    if (part->type == FEATURES_2) set((uint32_t *)((char *)part + FEATURES_2_AT), 0);
  }
  return ((int (*)(void *, void *, void *, void *))real("vkCreateDevice"))(
      device, &info, allocator, out);
}

/* What is asked for by name, with up to four pointers; a result that there is none of is not read. */
#define FORWARD(name)                                                          \
  intptr_t name(void *a, void *b, void *c, void *d) {                          \
    return ((intptr_t(*)(void *, void *, void *, void *))real(#name))(a, b, c, d); \
  }
FORWARD(vkCreateInstance)
FORWARD(vkDestroyInstance)
FORWARD(vkEnumerateInstanceExtensionProperties)
FORWARD(vkEnumerateInstanceLayerProperties)
FORWARD(vkEnumerateInstanceVersion)
FORWARD(vkEnumeratePhysicalDevices)
FORWARD(vkEnumerateDeviceExtensionProperties)
FORWARD(vkGetPhysicalDeviceProperties)
FORWARD(vkGetPhysicalDeviceProperties2)
FORWARD(vkGetPhysicalDeviceMemoryProperties)
FORWARD(vkGetPhysicalDeviceQueueFamilyProperties)

function vkGetInstanceProcAddr(void *instance, const char *name) {
  if (strcmp(name, "vkGetInstanceProcAddr") == 0) return (function)vkGetInstanceProcAddr;
  if (strcmp(name, "vkCreateDevice") == 0) return (function)vkCreateDevice;
  if (strcmp(name, "vkGetPhysicalDeviceFeatures") == 0) {
    return (function)vkGetPhysicalDeviceFeatures;
  }
  if (strncmp(name, "vkGetPhysicalDeviceFeatures2", 28) == 0) {
    return (function)vkGetPhysicalDeviceFeatures2;
  }
  return ((function(*)(void *, const char *))real("vkGetInstanceProcAddr"))(instance, name);
}
