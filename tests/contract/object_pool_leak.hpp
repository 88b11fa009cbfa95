// Misuse of an ObjectPool in a file that is compiled with asserts, whatever the build.
#pragma once

void leak_with_asserts();
void destroy_in_another_with_asserts();
