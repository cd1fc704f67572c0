echo "$(cat "$STROEM_LIBRARY_DIR/sender.txt"): $STROEM_INPUT_TEXT"
