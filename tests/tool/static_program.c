// Linked with -static.
int main(void) { return 0; }
