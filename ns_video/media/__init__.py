"""Everything that touches libav, Pillow or OpenCV. No other package imports av, PIL or cv2."""
